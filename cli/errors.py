"""What the command line reports instead of a traceback.

Error tree::

    CommandError                  exit code 1
    ├── AddressInUseError         the gateway's port is taken
    ├── ServiceGaveUpError        a child process died again and again
    ├── NotReadyError             the stack did not answer in time
    └── DemoError                 a step of the demo failed
        └── AcceptanceError       every step ran, but a figure missed its target
"""


class CommandError(Exception):
    """A failure the user can act on; printed as one sentence, then a hint."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class AddressInUseError(CommandError):
    """Another program listens on the address the gateway was told to use."""


class ServiceGaveUpError(CommandError):
    """A child process died more often than the restart policy allows."""


class NotReadyError(CommandError):
    """The services started but did not become ready in time."""


class DemoError(CommandError):
    """A step of the demo did not do what it is there to show."""


class AcceptanceError(DemoError):
    """The demo ran through, but a safety figure missed its target."""
