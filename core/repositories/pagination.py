"""A page of rows and how to cut it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

RowT = TypeVar("RowT")


@dataclass(frozen=True)
class Page(Generic[RowT]):
    """Some rows, and whether more follow."""

    items: list[RowT]
    has_more: bool


def cut_page(rows: Iterable[RowT], limit: int) -> Page[RowT]:
    """Make a page out of a query that was asked for one row more than the limit."""
    items = list(rows)
    return Page(items=items[:limit], has_more=len(items) > limit)
