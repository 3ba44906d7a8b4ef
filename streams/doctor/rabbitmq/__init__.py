"""Checks of RabbitMQ, by GET requests to its management API."""
