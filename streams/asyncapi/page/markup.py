"""HTML as values: text is escaped unless it is markup already."""

from __future__ import annotations

import json
from html import escape
from typing import Any, Final

from markdown_it import MarkdownIt

_VOID: Final = frozenset({"meta", "br"})
_MARKDOWN: Final = MarkdownIt("commonmark", {"html": False})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


Child = str | None


def tag(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """An element. `class_` is `class`; other underscores are hyphens; None and False leave out."""
    shown = "".join(
        f" {key.rstrip('_').replace('_', '-')}" + ("" if value is True else f'="{escape(str(value))}"')
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in _VOID:
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{join(*children)}</{name}>")


def join(*children: Child) -> Markup:
    return Markup("".join(c if isinstance(c, Markup) else escape(c) for c in children if c is not None))


def markdown(text: str) -> Markup:
    """CommonMark; HTML in it is shown, not obeyed."""
    return Markup(_MARKDOWN.render(text))


def inline(text: str) -> Markup:
    """One line of CommonMark, without the paragraph around it."""
    return Markup(_MARKDOWN.renderInline(text))


def link(target: str, text: Child, **attributes: str) -> Markup:
    return tag("a", text, href=target, **attributes)


def chip(text: Child, kind: str = "") -> Markup:
    return tag("span", text, class_=f"chip {kind}".strip())


def highlighted(value: Any) -> Markup:
    """JSON, indented, with keys and values told apart."""
    return tag("pre", tag("code", _json(value, "")))


def _json(value: Any, indent: str) -> Markup:
    deeper = indent + "  "
    if isinstance(value, dict) and value:
        items = [
            join(deeper, tag("b", json.dumps(key, ensure_ascii=False)), ": ", _json(item, deeper))
            for key, item in value.items()
        ]
        return join("{\n", Markup(",\n".join(items)), f"\n{indent}}}")
    if isinstance(value, list) and value:
        return join(
            "[\n", Markup(",\n".join(join(deeper, _json(item, deeper)) for item in value)), f"\n{indent}]"
        )
    text = json.dumps(value, ensure_ascii=False)
    return tag("i", text) if isinstance(value, str) else tag("u", text)
