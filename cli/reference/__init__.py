"""Reference pages computed from the code: ``python -m cli.reference`` writes them again."""
