"""``tuneward demo``: the whole product once, through the same doors any client uses."""
