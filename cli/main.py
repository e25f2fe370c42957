"""The ``tuneward`` command.

Every import of our own stands inside a command, so ``--help`` is instant and needs no torch.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.console import failures_as_exit_codes
from cli.errors import CommandError

if TYPE_CHECKING:
    from core.settings import Settings

app = typer.Typer(
    name="tuneward",
    help="Self-hosted fine-tuning that keeps tuned models safe.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals may hold rows and keys
    rich_markup_mode="rich",
)
keys_app = typer.Typer(help="API keys of projects.", no_args_is_help=True)
models_app = typer.Typer(help="The base models jobs can name.", no_args_is_help=True)
moderation_app = typer.Typer(help="The classifier that judges answers.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(models_app, name="models")
app.add_typer(moderation_app, name="moderation")

HostOption = Annotated[
    str | None, typer.Option("--host", help="Address to listen on [TUNEWARD_HOST].")
]
PortOption = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="Port, 0 for a free one.")
]
HomeOption = Annotated[
    Path | None, typer.Option("--home", help="Folder for all state [TUNEWARD_HOME].")
]


@app.command()
def serve(host: HostOption = None, port: PortOption = None, home: HomeOption = None) -> None:
    """Run everything on this machine: servers, gateway, worker. Ctrl-C stops it."""
    with failures_as_exit_codes():
        from cli.serve import serve as run  # noqa: PLC0415

        run(_settings(host=host, port=port, home=home))


@app.command()
def demo(
    home: Annotated[
        Path | None,
        typer.Option(help="Folder for all state [TUNEWARD_HOME, or else <output>/home]."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for what is downloaded.")] = Path(
        "demo-output"
    ),
) -> None:
    """Upload shipped rows, train under Panacea, download, check and print the safety table."""
    with failures_as_exit_codes():
        from cli.demo.command import demo_settings, run_demo  # noqa: PLC0415

        run_demo(demo_settings(_settings(home=home, port=0), output), output)


@app.command()
def gateway(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the HTTP API. Needs TUNEWARD_DATABASE_URL; does not need torch."""
    with failures_as_exit_codes():
        from cli.processes import run_gateway  # noqa: PLC0415

        run_gateway(_settings(host=host, port=port))


@app.command()
def worker() -> None:
    """Run jobs. Needs TUNEWARD_DATABASE_URL and TUNEWARD_REDIS_URL."""
    with failures_as_exit_codes():
        from cli.processes import run_worker  # noqa: PLC0415

        run_worker(_settings())


@app.command()
def relay() -> None:
    """Send the wake-ups that committed transactions asked for."""
    with failures_as_exit_codes():
        from cli.processes import run_relay  # noqa: PLC0415

        run_relay(_settings())


@app.command()
def reconciler() -> None:
    """Take back jobs of lost workers and repeat lost wake-ups."""
    with failures_as_exit_codes():
        from cli.processes import run_reconciler  # noqa: PLC0415

        run_reconciler(_settings())


@app.command()
def migrate() -> None:
    """Bring the schema of the configured database up to date."""
    with failures_as_exit_codes():
        from cli.database import migrate as run  # noqa: PLC0415

        run(_settings())


@keys_app.command("create")
def create_key(
    project: Annotated[str, typer.Option(help="Project; created if there is none of that name.")],
    name: Annotated[str, typer.Option(help="What the key is for.")],
    home: HomeOption = None,
) -> None:
    """Create an API key and print it, this once, to standard output."""
    with failures_as_exit_codes():
        from cli.keys import create  # noqa: PLC0415

        create(_settings(home=home), project, name)


@models_app.command("list")
def list_models() -> None:
    """Show the models of the registry."""
    with failures_as_exit_codes():
        from cli.models import show_models  # noqa: PLC0415

        show_models(_settings())


@models_app.command("prepare")
def prepare_model(
    model: Annotated[str, typer.Argument(help="Id in the registry.")], home: HomeOption = None
) -> None:
    """Convert a base model into the local cache, so that the first job need not wait for it."""
    with failures_as_exit_codes():
        from cli.models import prepare  # noqa: PLC0415

        prepare(_settings(home=home), model)


@models_app.command("align")
def align_model(  # noqa: PLR0913, PLR0917 - one parameter per option
    model: Annotated[str, typer.Argument(help="Id in the registry.")],
    output: Annotated[Path, typer.Option(help="Folder for the PEFT adapter.")],
    epochs: Annotated[
        int | None, typer.Option(min=1, show_default="4", help="Passes over the rows.")
    ] = None,
    refusal_repeats: Annotated[
        int | None,
        typer.Option(min=1, show_default="2", help="How often a pass reads each refusal."),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(show_default="0.002", help="At its highest.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, show_default="16", help="Rows per step.")
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option(min=1, show_default="8", help="Rank; alpha is twice as much.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(min=0, show_default="0", help="Of first weights and row order.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Train an adapter that refuses harmful requests, for jobs to continue."""
    with failures_as_exit_codes():
        from cli.alignment import align_model as run  # noqa: PLC0415
        from defense.alignment.supervised.config import AlignmentConfig  # noqa: PLC0415

        wanted = {
            "epochs": epochs,
            "refusal_repeats": refusal_repeats,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "lora_rank": lora_rank,
            "lora_alpha": None if lora_rank is None else 2.0 * lora_rank,
            "seed": seed,
        }
        given = {name: value for name, value in wanted.items() if value is not None}
        run(_settings(home=home), model, output, AlignmentConfig.model_validate(given))


@moderation_app.command("train")
def train_moderation(
    public_rows: Annotated[Path, typer.Option(help="Folder with the downloaded public rows.")],
    output: Annotated[Path, typer.Option(help="Folder for the head and its card.")],
    seed: Annotated[int, typer.Option(min=0, help="Of damaged copies and folds.")] = 0,
) -> None:
    """Train the head of the embedded classifier again."""
    with failures_as_exit_codes():
        from cli.moderation import train  # noqa: PLC0415

        train(_settings(), public_rows, output, seed)


def _settings(**overrides: Path | str | int | None) -> "Settings":
    """Read the environment, let options win, and send this process's own log to standard error."""
    from pydantic import ValidationError  # noqa: PLC0415

    from core.log import configure_logging  # noqa: PLC0415
    from core.settings import Settings  # noqa: PLC0415

    given: dict[str, Any] = {key: value for key, value in overrides.items() if value is not None}
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise CommandError(
            "\n".join(
                f"{_variable(problem['loc'])}: {problem['msg']}" for problem in error.errors()
            ),
            hint="docs/reference/settings.md describes every setting",
        ) from error
    configure_logging(_for_people(settings), "cli")
    return settings


def _for_people(settings: "Settings") -> "Settings":
    """Keep the log out of the way of what a command prints, unless the operator asked for it."""
    quiet = {"log_level": "warning", "log_format": "console"}
    unset = {key: value for key, value in quiet.items() if key not in settings.model_fields_set}
    return settings.model_copy(update=unset)


def _variable(location: tuple[int | str, ...]) -> str:
    return f"TUNEWARD_{location[0]}".upper() if location else "settings"


if __name__ == "__main__":
    app(prog_name="tuneward")
