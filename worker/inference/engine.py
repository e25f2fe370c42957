"""What the inference process does, off its event loop: one thread reads texts, one writes answers.

A thread does one thing at a time, in the order of asking. Each token of an answer is asked for
anew, so answers that are written at once take turns, and one that nobody asks for any more ends.

Torch is imported by the first request that needs it.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog

from core.errors import InferenceBusyError
from core.inference import AnswerLine, AnswerRequest, EmbeddedTexts, JudgedTexts
from core.settings import Settings

if TYPE_CHECKING:
    from worker.inference.answers import Answer
    from worker.inference.embedder import Embedder
    from worker.inference.models import ServedModels
    from worker.inference.moderator import Moderator

T = TypeVar("T")

# How long a request waits until another base model has given its answers.
BASE_MODEL_SECONDS: Final = 20.0
BASE_MODEL_POLL_SECONDS: Final = 0.1

_log = structlog.get_logger(__name__)


class Lane:
    """One thread, how many requests may wait for it, and when it was last used.

    Args:
        name: Of the thread.
        limit: Requests at once. The last place is for a project that has none yet.
    """

    def __init__(self, name: str, limit: int) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)
        self._limit = limit
        self._taken: Counter[str] = Counter()
        self._used_at = time.monotonic()

    @contextmanager
    def slot(self, project: str) -> Iterator[None]:
        """Count one request of a project while the block runs.

        Raises:
            InferenceBusyError: There are too many already, or too many of this project.
        """
        taken = self._taken.total()
        if taken >= self._limit or (self._taken[project] and taken == self._limit - 1):
            raise InferenceBusyError(
                "The server answers as many such requests as it may.", hint="Try again shortly."
            )
        self._taken[project] += 1
        try:
            yield
        finally:
            self._taken[project] -= 1
            self._taken += Counter()  # forgets those who hold none
            self._used_at = time.monotonic()

    def idle_seconds(self) -> float:
        """How long no request has been here; 0 while there is one."""
        return 0.0 if self._taken.total() else time.monotonic() - self._used_at

    async def run(self, work: Callable[..., T], *arguments: Any) -> T:  # noqa: ANN401 - handed on
        """Do the work in this thread."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, work, *arguments)

    def run_later(self, work: Callable[[], object]) -> None:
        """Do the work in this thread without waiting for it."""
        self._thread.submit(work)

    def close(self) -> None:
        """End the thread after the work it is at."""
        self._thread.shutdown(wait=True, cancel_futures=True)


class Engine:
    """Judges and embeds texts, and continues conversations.

    Args:
        settings: Where models and archives are, and how many requests are served at once.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.judging = Lane("judging", settings.inference_concurrency)
        self.writing = Lane("writing", settings.inference_concurrency)
        self._moderator: Moderator | None = None
        self._embedder: Embedder | None = None
        self._models: ServedModels | None = None
        self._beginning = asyncio.Lock()

    async def judge(self, texts: tuple[str, ...]) -> JudgedTexts:
        """Judge texts.

        Raises:
            InferenceUnavailableError: The classifier cannot be opened.
            ModelUnusableError: It gives numbers that cannot be trusted.
        """
        return await self.judging.run(self._judge, texts)

    async def embed(self, texts: tuple[str, ...]) -> EmbeddedTexts:
        """Make a vector for each text.

        Raises:
            InferenceUnavailableError: The encoder cannot be opened.
            ModelUnusableError: It gives numbers that cannot be trusted.
        """
        return await self.judging.run(self._embed, texts)

    async def begin(self, request: AnswerRequest) -> "Answer":
        """Load the model and read the conversation; whoever calls this calls `end`.

        Waits a while for answers of another base model to end; who asks later waits behind.

        Raises:
            InferenceBusyError: They did not end in time.
            InvalidRequestError: The conversation is too long.
            InferenceUnavailableError: The model cannot be loaded now.
            ModelUnusableError: The model cannot be loaded at all.
            NotFoundError: Its archive is gone.
        """
        deadline = time.monotonic() + BASE_MODEL_SECONDS
        async with self._beginning:
            while True:
                try:
                    return await self.writing.run(self._begin, request)
                except InferenceBusyError:
                    if time.monotonic() > deadline:
                        raise
                await asyncio.sleep(BASE_MODEL_POLL_SECONDS)

    async def go_on(self, answer: "Answer") -> list[AnswerLine]:
        """Write one more token; what comes of it, if anything can be shown yet."""
        return await self.writing.run(answer.step)

    def end(self, answer: "Answer") -> None:
        """Give up an answer, finished or not."""
        self.writing.run_later(answer.close)

    async def unload_when_idle(self) -> None:
        """Forget models that nobody has asked for, until cancelled."""
        limit = self._settings.inference_idle_timeout.total_seconds()
        while True:
            await asyncio.sleep(limit / 2)
            if self.judging.idle_seconds() > limit:
                await self.judging.run(self._close_readers)
            if self.writing.idle_seconds() > limit:
                await self.writing.run(self._close_models)

    def close(self) -> None:
        """End both threads."""
        self.judging.close()
        self.writing.close()

    def _judge(self, texts: tuple[str, ...]) -> JudgedTexts:
        if self._moderator is None:
            from worker.inference.moderator import Moderator  # noqa: PLC0415

            self._moderator = Moderator(self._settings)
        return self._moderator.judge(texts)

    def _embed(self, texts: tuple[str, ...]) -> EmbeddedTexts:
        if self._embedder is None:
            from worker.inference.embedder import Embedder  # noqa: PLC0415

            self._embedder = Embedder(self._settings)
        return self._embedder.embed(texts)

    def _begin(self, request: AnswerRequest) -> "Answer":
        from worker.inference.answers import Answer  # noqa: PLC0415
        from worker.inference.models import ServedModels  # noqa: PLC0415

        if self._models is None:
            self._models = ServedModels.from_settings(self._settings)
        voice = self._models.take(request.model)
        try:
            return Answer(voice, request)
        except BaseException:
            voice.give_back()
            raise

    def _close_readers(self) -> None:
        if self._moderator is not None:
            self._moderator = None
            _log.info("classifier_unloaded")
        if self._embedder is not None:
            self._embedder = None
            _log.info("encoder_unloaded")

    def _close_models(self) -> None:
        if self._models is not None:
            self._models.close()
            self._models = None
            _log.info("models_unloaded")
