"""Tracebacks for the log: where it happened and what kind of error, without what the error quotes.

A library's message may repeat the value that it failed on (a validation error does, a KeyError is one), and
that is a payload. Messages of our own errors, which never do, and of the operating system's are shown.
"""

from __future__ import annotations

import textwrap
import traceback
from types import TracebackType
from typing import Final

from schemas.errors import StreamsError

ExcInfo = tuple[type[BaseException], BaseException, TracebackType | None]

_SPEAKS_FREELY: Final = (StreamsError, OSError, ImportError, AttributeError, NotImplementedError)


def render(exc_info: ExcInfo) -> str:
    """The chain of errors, the first cause first, as Python prints it."""
    return _render(exc_info[1], set())


def _render(error: BaseException, seen: set[int]) -> str:
    seen.add(id(error))
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    text = ""
    if before is not None and id(before) not in seen:
        text = f"{_render(before, seen)}\n\nand then, because of it or meanwhile:\n\n"
    frames = "".join(traceback.format_tb(error.__traceback__))
    text += f"Traceback (most recent call last):\n{frames}{_words(error)}"
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            text += "\n" + textwrap.indent(_render(inner, seen), "  | ")
    return text


def _words(error: BaseException) -> str:
    name = type(error).__qualname__
    if type(error).__module__ not in ("builtins", "__main__"):
        name = f"{type(error).__module__}.{name}"
    if isinstance(error, _SPEAKS_FREELY):
        return f"{name}: {error}"
    state = getattr(error, "sqlstate", None)
    return f"{name}: SQLSTATE {state}" if state else f"{name} (its message is withheld: it may quote data)"
