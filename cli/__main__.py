"""Run the command line as ``python -m cli``; the form in which child processes are started."""

from cli.main import app

if __name__ == "__main__":
    app(prog_name="tuneward")
