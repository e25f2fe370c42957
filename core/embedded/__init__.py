"""Real Postgres and Redis servers from wheels, for machines where none is configured."""
