"""The one clock: Postgres's. Machines disagree about the time; leases cannot."""

from datetime import datetime

from sqlalchemy import DateTime, Function, func


def database_now() -> Function[datetime]:
    """The moment at which Postgres received the statement; the same all through it."""
    return func.statement_timestamp(type_=DateTime(timezone=True))
