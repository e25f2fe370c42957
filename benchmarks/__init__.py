"""Every number the project claims, as a command that measures it again."""
