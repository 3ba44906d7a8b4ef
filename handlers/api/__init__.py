"""The read API: an ASGI application made of routes (one file for each resource) and what surrounds them."""

from handlers.api.app import Limits, create_app

__all__ = ["Limits", "create_app"]
