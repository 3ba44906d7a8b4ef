"""Checks of our own processes, over HTTP alone."""
