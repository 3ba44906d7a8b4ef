"""Checks of Redis, by commands that read."""
