"""How Alembic reaches the database; called by `core.migration` and by the `alembic` command."""

from alembic import context
from sqlalchemy import NullPool, create_engine, text

from core.database import normalise_url
from core.models import Base
from core.settings import Settings

# Any fixed number will do: whoever migrates a database holds this lock on it.
MIGRATION_LOCK = 7_310_443_162


def run() -> None:
    """Run the migrations that were asked for, one transaction each.

    Raises:
        ValueError: No database address is configured.
    """
    url = context.config.attributes.get("database_url") or Settings().database_url
    if url is None:
        msg = "set TUNEWARD_DATABASE_URL to the database to migrate"
        raise ValueError(msg)
    engine = create_engine(normalise_url(url), poolclass=NullPool, hide_parameters=True)
    with engine.connect() as connection:
        # Two processes that start at once must not both create the tables. The lock belongs to
        # the connection and ends with it.
        connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": MIGRATION_LOCK})
        connection.commit()
        context.configure(
            connection=connection,
            target_metadata=Base.metadata,
            transaction_per_migration=True,
            compare_server_default=True,
        )
        with context.begin_transaction():
            context.run_migrations()


run()
