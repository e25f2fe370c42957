"""Names on which the sender and the receiver of a message agree."""

from typing import Final

QUEUE: Final = "tuneward"
WAKE_WORKER: Final = "tuneward.wake_worker"
