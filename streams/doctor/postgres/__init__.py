"""Checks of PostgreSQL, over one connection that cannot write."""
