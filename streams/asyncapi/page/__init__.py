"""The document as one page of HTML: no script, no request, its styles inside."""

from streams.asyncapi.page.layout import to_html

__all__ = ["to_html"]
