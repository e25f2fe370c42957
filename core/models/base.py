"""What all tables share: column types, constraint names, and the clock."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

from sqlalchemy import BigInteger, DateTime, Enum, MetaData, Text, func
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

Json = dict[str, Any]

# Postgres refuses constraint names it cannot repeat in a downgrade; so every one is derived.
NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}

# The database's clock, not this machine's, stamps every row.
CreatedAt = Annotated[datetime, mapped_column(server_default=func.clock_timestamp())]


class Base(DeclarativeBase):
    """The declarative base of every table."""

    metadata = MetaData(naming_convention=NAMING)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: Text(),
        int: BigInteger(),
        datetime: DateTime(timezone=True),
        # None is SQL NULL, never the JSON value null.
        Json: JSONB(none_as_null=True),
        list[str]: JSONB(none_as_null=True),
    }


def text_enum(states: type[StrEnum]) -> Enum:
    """Store a `StrEnum` by its value in a text column; a CHECK on the table guards the values."""
    return Enum(
        states,
        native_enum=False,
        create_constraint=False,
        length=32,
        values_callable=lambda members: [member.value for member in members],
    )


def check_values(column: str, states: type[StrEnum]) -> str:
    """Write the SQL condition that `column` holds one of the enum's values."""
    values = ", ".join(f"'{member.value}'" for member in states)
    return f"{column} IN ({values})"
