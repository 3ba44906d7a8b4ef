"""A live view of the running service in a terminal, from its processes' /metrics alone."""
