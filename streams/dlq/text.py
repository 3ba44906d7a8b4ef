"""Text of strangers on a terminal: what could move the cursor, change colours or hide is written out."""

from __future__ import annotations


def printable(text: str, *, lines: bool = False) -> str:
    """The text with everything that is no printable character escaped as in Python source.

    That is more than control characters: marks that reverse the direction of writing and spaces of no
    width are escaped, too.

    Args:
        lines: keep line breaks and tabs.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or (lines and c in "\n\t") else _escaped(c) for c in text)


def payload(body: bytes) -> str:
    """A body for a terminal: as text if it is UTF-8, else with its other bytes as \\xNN."""
    return printable(body.decode("utf-8", errors="backslashreplace"), lines=True)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape", errors="backslashreplace").decode()
