import subprocess
import sys

HEAVY = "torch", "transformers", "peft", "celery", "worker"


def test_the_gateway_imports_no_tensor_library_and_no_worker() -> None:
    script = (
        "import sys, api.main;"
        f"found = [name for name in {HEAVY!r} if name in sys.modules];"
        "sys.exit(f'imported {found}' if found else 0)"
    )

    finished = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60
    )

    assert finished.returncode == 0, finished.stderr
