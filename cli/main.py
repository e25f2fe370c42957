"""The ``tuneward`` command.

Every import of our own stands inside a command, so ``--help`` is instant and needs no torch.
"""

from pathlib import Path
from typing import Annotated

import typer

from cli.configuration import HomeOption, read_settings
from cli.console import failures_as_exit_codes
from cli.help_flag import show_help_as_flag
from cli.tenants import keys_app, projects_app

app = typer.Typer(
    name="tuneward",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # locals may hold rows and keys
    rich_markup_mode="rich",
)
models_app = typer.Typer(help="The base models jobs can name.", no_args_is_help=True)
moderation_app = typer.Typer(help="The classifier that judges answers.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")
app.add_typer(projects_app, name="projects")
app.add_typer(models_app, name="models")
app.add_typer(moderation_app, name="moderation")

HostOption = Annotated[
    str | None, typer.Option("--host", help="Address to listen on [TUNEWARD_HOST].")
]
PortOption = Annotated[
    int | None, typer.Option("--port", min=0, max=65535, help="Port, 0 for a free one.")
]


def _show_version(asked: bool) -> None:  # noqa: FBT001 - as Typer calls it
    if asked:
        from importlib.metadata import version  # noqa: PLC0415

        typer.echo(f"tuneward {version('tuneward')}")
        raise typer.Exit


VersionOption = Annotated[
    bool,
    typer.Option(
        "--version",
        callback=_show_version,
        is_eager=True,
        metavar="",  # a flag, as in `help_flag`
        help="Show the version and exit.",
    ),
]


@app.callback()
def tuneward(_version: VersionOption = False) -> None:  # noqa: FBT002 - as Typer calls it
    """Self-hosted fine-tuning that keeps tuned models safe."""


@app.command()
def serve(host: HostOption = None, port: PortOption = None, home: HomeOption = None) -> None:
    """Run everything on this machine: servers, gateway, worker. Ctrl-C stops it."""
    with failures_as_exit_codes():
        from cli.serve import serve as run  # noqa: PLC0415

        run(read_settings(host=host, port=port, home=home))


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
    """Upload shipped rows, train and guard, download, check and print the safety table."""
    with failures_as_exit_codes():
        from cli.demo.command import demo_settings, run_demo  # noqa: PLC0415

        run_demo(demo_settings(read_settings(home=home, port=0), output), output)


@app.command()
def gateway(host: HostOption = None, port: PortOption = None) -> None:
    """Serve the HTTP API. Needs TUNEWARD_DATABASE_URL; does not need torch."""
    with failures_as_exit_codes():
        from cli.processes import run_gateway  # noqa: PLC0415

        run_gateway(read_settings(host=host, port=port))


@app.command()
def worker() -> None:
    """Run jobs. Needs TUNEWARD_DATABASE_URL and TUNEWARD_REDIS_URL."""
    with failures_as_exit_codes():
        from cli.processes import run_worker  # noqa: PLC0415

        run_worker(read_settings())


@app.command()
def relay() -> None:
    """Send the wake-ups that committed transactions asked for."""
    with failures_as_exit_codes():
        from cli.processes import run_relay  # noqa: PLC0415

        run_relay(read_settings())


@app.command()
def reconciler() -> None:
    """Take back jobs of lost workers and repeat lost wake-ups."""
    with failures_as_exit_codes():
        from cli.processes import run_reconciler  # noqa: PLC0415

        run_reconciler(read_settings())


@app.command("webhook-sender")
def webhook_sender() -> None:
    """Tell projects' webhook endpoints that jobs have ended."""
    with failures_as_exit_codes():
        from cli.processes import run_webhook_sender  # noqa: PLC0415

        run_webhook_sender(read_settings())


@app.command()
def inference() -> None:
    """Run models for moderations and chats. Needs TUNEWARD_INFERENCE_URL and its token."""
    with failures_as_exit_codes():
        from cli.processes import run_inference  # noqa: PLC0415

        run_inference(read_settings())


@app.command()
def migrate() -> None:
    """Bring the schema of the configured database up to date."""
    with failures_as_exit_codes():
        from cli.database import migrate as run  # noqa: PLC0415

        run(read_settings())


@app.command()
def conformance(
    base_url: Annotated[str, typer.Argument(help="Of the server, with /v1.")],
    model: Annotated[
        str | None, typer.Option(show_default="first of the list", help="What is fine-tuned.")
    ] = None,
    project: Annotated[
        str | None,
        typer.Option(show_default="that of the jobs", help="Is given leave to use a checkpoint."),
    ] = None,
    python: Annotated[
        list[Path] | None,
        typer.Option(help="Interpreter with another openai package; may be repeated."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Longest wait for a job, seconds.")] = 1800,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002
) -> None:
    """Score how far any server answers OpenAI's fine-tuning contract; the key is OPENAI_API_KEY."""
    with failures_as_exit_codes():
        from cli.contract_score import score_server  # noqa: PLC0415

        arguments = [base_url, f"--timeout={timeout}"]
        arguments += [f"--model={model}"] if model else []
        arguments += [f"--project={project}"] if project else []
        if not score_server(arguments, python or [], as_json=json):
            raise typer.Exit(1)


@models_app.command("list")
def list_models() -> None:
    """Show the models of the registry."""
    with failures_as_exit_codes():
        from cli.models import show_models  # noqa: PLC0415

        show_models(read_settings())


@models_app.command("prepare")
def prepare_model(
    model: Annotated[str, typer.Argument(help="Id in the registry.")], home: HomeOption = None
) -> None:
    """Convert a base model into the local cache, so that the first job need not wait for it."""
    with failures_as_exit_codes():
        from cli.models import prepare  # noqa: PLC0415

        prepare(read_settings(home=home), model)


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
    method: Annotated[
        str, typer.Option(help="A method of stage `alignment` in `GET /v1/defenses`.")
    ] = "supervised",
    option: Annotated[
        list[str] | None,
        typer.Option(help="Another option of the method, as name=value; may be repeated."),
    ] = None,
    home: HomeOption = None,
) -> None:
    """Train an adapter that refuses harmful requests, for jobs to continue."""
    with failures_as_exit_codes():
        from cli.alignment import align_model as run  # noqa: PLC0415
        from cli.alignment_options import alignment_config  # noqa: PLC0415

        flags = {
            "epochs": epochs,
            "refusal_repeats": refusal_repeats,
            "learning_rate": learning_rate,
            "batch_size": batch_size,
            "lora_rank": lora_rank,
            "seed": seed,
        }
        config = alignment_config(method, flags, option or [])
        run(read_settings(home=home), model, output, config)


@moderation_app.command("train")
def train_moderation(
    public_rows: Annotated[Path, typer.Option(help="Folder with the downloaded public rows.")],
    output: Annotated[Path, typer.Option(help="Folder for the head and its card.")],
    seed: Annotated[int, typer.Option(min=0, help="Of damaged copies and folds.")] = 0,
) -> None:
    """Train the head of the embedded classifier again."""
    with failures_as_exit_codes():
        from cli.moderation import train  # noqa: PLC0415

        train(read_settings(), public_rows, output, seed)


if __name__ == "__main__":
    app(prog_name="tuneward")


show_help_as_flag(app, keys_app, projects_app, models_app, moderation_app)
