"""``tuneward moderation``: work on the classifier that ships."""

from pathlib import Path

from cli import console
from core.resources import resource_path
from core.settings import Settings
from defense.moderation.train_head import OWN_ROWS, train_head
from worker.devices import choose_device


def train(settings: Settings, public_rows: Path, output: Path, seed: int) -> None:
    """Train the embedded classifier's head on the shipped and the given public rows."""
    own_rows = [resource_path(f"rows/{name}") for name in OWN_ROWS]
    device = choose_device(settings.device)
    trained = train_head(public_rows, own_rows, output, seed=seed, device=device.type)
    console.done(f"trained on {trained.texts} texts; SHA-256 {trained.sha256}")
    console.note(f"wrote {trained.weights} and {trained.card.name}")
