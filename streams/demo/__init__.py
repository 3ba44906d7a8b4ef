"""The demonstration: seven simulated agents, the whole service, and an independent check of the result."""
