"""``tuneward serve``: the whole service on one machine, until it is told to stop."""

import shlex
import time

from rich.markup import escape

from cli import console
from cli.interruption import interrupted_once
from cli.invocation import command_name
from cli.keys import first_api_key
from cli.stack import RunningStack, running_stack
from core.settings import Settings

TICK_SECONDS = 0.5


def serve(settings: Settings) -> None:
    """Run the stack until TERM or Ctrl-C, then stop everything that was started."""
    console.note(f"starting in {settings.home}")
    with interrupted_once():
        try:
            with running_stack(settings, on_notice=console.warn) as stack:
                _announce(stack)
                while True:
                    stack.tick()
                    time.sleep(TICK_SECONDS)
        except KeyboardInterrupt:
            console.done("everything stopped")


def _announce(stack: RunningStack) -> None:
    key = first_api_key(stack.database)
    console.done(f"ready at {stack.address}")
    console.out.print(f"  base_url  [bold]{stack.address}/v1[/bold]")
    if key is None:
        console.out.print(
            "  api_key   shown at the first start; "
            f"for another one: [bold]{escape(_another_key(stack.settings))}[/bold]",
            soft_wrap=True,
        )
    else:
        console.out.print(
            f"  api_key   [bold]{escape(key)}[/bold]  (shown this once)", soft_wrap=True
        )
    console.out.print(f"  logs      {escape(str(stack.supervisor.log_folder))}", soft_wrap=True)
    console.out.print("  Ctrl-C stops everything.")


def _another_key(settings: Settings) -> str:
    command = f"{command_name()} keys create --project default --name mine"
    is_elsewhere = settings.home != Settings().home
    return f"{command} --home {shlex.quote(str(settings.home))}" if is_elsewhere else command
