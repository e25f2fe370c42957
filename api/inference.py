"""The gateway's side of the inference process: every model runs there, none in the gateway."""

import copy
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Final

import httpx
import structlog
from pydantic import BaseModel, ValidationError

from core.errors import (
    InferenceBusyError,
    InferenceUnavailableError,
    InvalidRequestError,
    ModelUnusableError,
    NotFoundError,
    RequestErrorCode,
    TunewardError,
)
from core.inference import (
    ANSWER_LINE,
    ANSWERS_PATH,
    EMBEDDINGS_PATH,
    MODERATIONS_PATH,
    PROJECT_HEADER,
    AnswerEnded,
    AnswerFailed,
    AnswerLine,
    AnswerRequest,
    EmbeddedTexts,
    JudgedTexts,
    Refusal,
    TextsToEmbed,
    TextsToJudge,
)
from core.settings import Settings

CONNECT_SECONDS: Final = 5.0

_log = structlog.get_logger(__name__)


class InferenceClient:
    """Asks the inference process, if the settings name one.

    It asks on behalf of nobody until `of_project` names somebody.

    Args:
        settings: Its address, the secret, and how long it may be silent.
    """

    def __init__(self, settings: Settings) -> None:
        self._url = settings.inference_url
        self._token = settings.inference_token
        self._project_id = ""
        self._timeout = httpx.Timeout(
            settings.inference_timeout.total_seconds(), connect=CONNECT_SECONDS
        )
        is_tls = self._url is not None and self._url.startswith("https:")
        # Made once: reading the machine's certificates takes longer than a request.
        self._verify: ssl.SSLContext | bool = httpx.create_ssl_context() if is_tls else False

    def of_project(self, project_id: str) -> "InferenceClient":
        """Give a client that asks on behalf of a project, which has a share and no more."""
        client = copy.copy(self)
        client._project_id = project_id  # noqa: SLF001 - its own class
        return client

    async def judge(self, texts: tuple[str, ...]) -> JudgedTexts:
        """Have texts judged by the moderation classifier.

        Raises:
            InferenceBusyError: Too many requests wait already.
            InferenceUnavailableError: Nobody answers.
            ModelUnusableError: The classifier's numbers cannot be trusted.
        """
        async with self._asked(MODERATIONS_PATH, TextsToJudge(texts=texts)) as response:
            return JudgedTexts.model_validate_json(await response.aread())

    async def embed(self, texts: tuple[str, ...]) -> tuple[tuple[float, ...], ...]:
        """Have a vector of length 1 made for each text; alike texts have near ones.

        Raises:
            InferenceBusyError: Too many requests wait already.
            InferenceUnavailableError: Nobody answers.
            ModelUnusableError: The encoder's numbers cannot be trusted.
        """
        async with self._asked(EMBEDDINGS_PATH, TextsToEmbed(texts=texts)) as response:
            return EmbeddedTexts.model_validate_json(await response.aread()).vectors

    @asynccontextmanager
    async def answer(self, request: AnswerRequest) -> AsyncIterator[AsyncIterator[AnswerLine]]:
        """Have a conversation continued while the block runs; leaving it stops the model.

        The lines end with `AnswerEnded`; asking for them raises what is listed below as well.

        Raises:
            InvalidRequestError: The conversation is too long.
            NotFoundError: The model was deleted just now.
            InferenceBusyError: Too many answers are being written already.
            InferenceUnavailableError: Nobody answers, or no more.
            ModelUnusableError: The model cannot be loaded.
        """
        async with self._asked(ANSWERS_PATH, request) as response:
            yield _answer_lines(response)

    @asynccontextmanager
    async def _asked(self, path: str, body: BaseModel) -> AsyncIterator[httpx.Response]:
        if self._url is None or self._token is None:
            raise InferenceUnavailableError("This server has no inference process.")
        headers = {
            "authorization": f"Bearer {self._token}",
            "content-type": "application/json",
            PROJECT_HEADER: self._project_id,
        }
        try:
            async with (
                httpx.AsyncClient(
                    verify=self._verify, timeout=self._timeout, trust_env=False
                ) as http,
                http.stream(
                    "POST", f"{self._url}{path}", content=body.model_dump_json(), headers=headers
                ) as response,
            ):
                if response.status_code != HTTPStatus.OK:
                    raise _refusal(response.status_code, await response.aread())
                yield response
        except httpx.TransportError as error:
            raise _silence(error) from error


async def _answer_lines(response: httpx.Response) -> AsyncIterator[AnswerLine]:
    try:
        async for text in response.aiter_lines():
            line = _read_line(text)
            if isinstance(line, AnswerFailed):
                raise ModelUnusableError("The model failed in the middle of its answer.")
            yield line
            if isinstance(line, AnswerEnded):
                return
    except httpx.TransportError as error:
        raise _silence(error) from error
    raise InferenceUnavailableError("The inference process broke off its answer.")


def _read_line(text: str) -> AnswerLine:
    try:
        return ANSWER_LINE.validate_json(text)
    except ValidationError as error:  # of another release
        raise InferenceUnavailableError("The inference process answers in other words.") from error


def _silence(error: httpx.TransportError) -> InferenceUnavailableError:
    _log.warning("inference_unavailable", error_type=type(error).__name__)
    return InferenceUnavailableError("The inference process does not answer.")


def _refusal(status: int, body: bytes) -> TunewardError:
    """Make the error that the inference process has named."""
    try:
        refusal = Refusal.model_validate_json(body)
    except ValidationError:
        _log.error("inference_refused", status=status)
        return InferenceUnavailableError("The inference process cannot serve this request now.")
    return _ERRORS.get(refusal.code, InferenceUnavailableError)(refusal.message)


_ERRORS: Final[Mapping[str, Callable[[str], TunewardError]]] = {
    RequestErrorCode.CONTEXT_LENGTH_EXCEEDED: lambda words: InvalidRequestError(
        words, param="messages", code=RequestErrorCode.CONTEXT_LENGTH_EXCEEDED
    ),
    RequestErrorCode.INVALID_VALUE: lambda words: InvalidRequestError(
        words, param="messages", code=RequestErrorCode.INVALID_VALUE
    ),
    RequestErrorCode.MODEL_NOT_FOUND: lambda words: NotFoundError(
        words, param="model", code=RequestErrorCode.MODEL_NOT_FOUND
    ),
    InferenceBusyError.code: InferenceBusyError,
    ModelUnusableError.code: ModelUnusableError,
}
