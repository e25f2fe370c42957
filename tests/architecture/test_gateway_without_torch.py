"""The gateway's image has no torch; here a fresh interpreter is denied it."""

import subprocess
import sys

_PROGRAM = """
import sys

DENIED = {"torch", "transformers", "peft", "accelerate", "safetensors", "numpy", "gguf"}


class Deny:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in DENIED:
            raise ModuleNotFoundError(f"denied: {name}", name=name)


sys.meta_path.insert(0, Deny())
import api.main
import cli.main
import cli.processes
import worker.relay
import worker.reconciler

print(sorted(DENIED & set(sys.modules)))
"""


def test_gateway_relay_and_reconciler_import_where_torch_is_missing() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM], capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
