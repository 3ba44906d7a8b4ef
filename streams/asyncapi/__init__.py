"""The contract as an AsyncAPI 3 document, built from the code.

document = build(load_subscriptions(settings.handlers), Limits.of(settings))
print(to_yaml(document))
"""

from streams.asyncapi.document import build
from streams.asyncapi.page import to_html
from streams.asyncapi.render import to_json, to_yaml
from streams.asyncapi.rules import VERSION, Limits

__all__ = ["VERSION", "Limits", "build", "to_html", "to_json", "to_yaml"]
