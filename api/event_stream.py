"""Server-sent events: an answer that stays open, and how many of them a process serves."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.errors import error_response
from core.errors import TooManyStreamsError

HEARTBEAT: Final = ": heartbeat\n\n"
DONE: Final = "data: [DONE]\n\n"


def frame(event_id: str, json_text: str) -> str:
    """Write one event; the text is JSON on one line."""
    return f"id: {event_id}\ndata: {json_text}\n\n"


@dataclass
class StreamSlots:
    """Counts the open streams of this process; used from its event loop alone."""

    limit: int
    taken: int = 0


class EventStreamResponse(StreamingResponse):
    """Streams events for as long as the client listens, or says that too many others do.

    The slot is taken where the answer is sent and not where it is made: an answer that is made and
    never sent would keep its slot for ever.
    """

    media_type = "text/event-stream"

    def __init__(self, frames: AsyncIterator[str], slots: StreamSlots) -> None:
        # The second header stops proxies from holding events back.
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(frames, headers=headers)
        self._slots = slots

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        if self._slots.taken >= self._slots.limit:
            refusal = error_response(
                TooManyStreamsError(
                    "Too many live streams are open on this server.",
                    hint="Close one, or poll the list of events instead.",
                )
            )
            await refusal(scope, receive, send)
            return
        self._slots.taken += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._slots.taken -= 1
