"""A hash of everything that decides a result, so that an old one is never taken for a new one.

Of code, what it does is hashed, and not its comments and docstrings: rewording must not cost an
hour. Of the methods' folders, only those that a result went through are in it.
"""

import ast
import hashlib
import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import defense
from defense.config import DefenseConfig

_CODE = Path(defense.__file__).parent
_BENCHMARK = Path(__file__).parent
_METHOD_FOLDERS = ("alignment", "fine_tuning", "post_fine_tuning")
# They only name methods; what a method is asked is hashed by itself.
_LISTS = ("catalog.py", "registry.py")
# Rankings of rows have a key of their own; no method's result depends on them.
_RANKING = (
    _CODE / "ops" / "per_row_gradients.py",
    _CODE / "evaluation" / "row_attribution.py",
    _BENCHMARK / "attribution.py",
    _BENCHMARK.parent / "ranking.py",
)
# Of the benchmark, what measures; the report is made of what was measured.
_MEASURING = (
    "harness.py",
    "laboratory.py",
    "methods.py",
    "public_rows.py",
    "questions.py",
    "scoring.py",
    "training.py",
    "ending.py",
)


def key_of(identity: object) -> str:
    """Hash what JSON can hold; a dictionary's order does not matter."""
    text = json.dumps(identity, sort_keys=True, ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def code_key(configs: Iterable[DefenseConfig | None]) -> str:
    """Hash the code that some methods run through, and the code that all of them share."""
    folders = {
        str(Path(*type(config).__module__.split(".")[1:-1]))
        for config in configs
        if config is not None
    }
    own = [path for folder in sorted(folders) for path in _python_files(_CODE / folder)]
    return key_of([_shared_code(), [_meaning(path) for path in own]])


def attribution_code_key() -> str:
    """Hash the code that rankings of rows run through."""
    return key_of([_shared_code(), [_meaning(path) for path in _RANKING]])


@cache
def _shared_code() -> str:
    files = [
        path
        for path in _python_files(_CODE)
        if path.relative_to(_CODE).parts[0] not in _METHOD_FOLDERS
        and path.name not in _LISTS
        and path not in _RANKING
    ]
    return key_of([_meaning(path) for path in [*files, *(_BENCHMARK / n for n in _MEASURING)]])


def _python_files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


@cache
def _meaning(path: Path) -> str:
    return meaning(path.read_text(encoding="utf-8"))


def meaning(source: str) -> str:
    """A module without its comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body: Any = getattr(node, "body", None)
        if isinstance(body, list) and body and _is_text(body[0]):
            del body[0]
    return ast.dump(tree)


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
