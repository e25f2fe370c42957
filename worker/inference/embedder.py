"""The encoder of the embedded moderation classifier, as what it was made for: comparing texts.

It is opened beside the classifier, whichever that is: the encoder is small, and a big classifier
need not be loaded to compare two texts.
"""

from collections.abc import Callable

import structlog

from core.errors import InferenceUnavailableError, ModelUnusableError
from core.inference import EmbeddedTexts
from core.settings import Settings
from defense.moderation.encoder import TextEncoder, packaged_encoder_folder
from defense.moderation.protocol import ModerationError

_log = structlog.get_logger(__name__)


class Embedder:
    """Holds the encoder.

    Args:
        settings: Where it computes.
        open_encoder: Opens it on a device; another one in tests.

    Raises:
        InferenceUnavailableError: It cannot be opened.
    """

    def __init__(
        self, settings: Settings, open_encoder: Callable[[str], TextEncoder] | None = None
    ) -> None:
        try:
            self._encoder = (open_encoder or _packaged_encoder)(settings.inference_device)
        except ModerationError as error:
            _log.exception("encoder_unavailable")
            raise InferenceUnavailableError("The text encoder can't be loaded.") from error

    def embed(self, texts: tuple[str, ...]) -> EmbeddedTexts:
        """Make a vector for each text.

        Raises:
            ModelUnusableError: A number of one is not finite.
        """
        vectors = self._encoder.embeddings(texts)
        if not vectors.isfinite().all():
            raise ModelUnusableError("The text encoder gives no usable numbers.")
        return EmbeddedTexts(vectors=tuple(map(tuple, vectors.tolist())))


def _packaged_encoder(device: str) -> TextEncoder:
    return TextEncoder(packaged_encoder_folder(), device)
