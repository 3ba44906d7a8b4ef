"""Numbers in a few characters."""

from __future__ import annotations

NOTHING = "-"


def number(value: float | None) -> str:
    """At most six characters: 0.5, 12, 1,234, 56.7k, 8.9M."""
    if value is None:
        return NOTHING
    if value < 9.95:
        return f"{value:.0f}" if value == int(value) else f"{value:.1f}"
    if value < 9999.5:
        return f"{value:,.0f}"
    if value < 999_950:
        return f"{value / 1e3:.1f}k"
    return f"{value / 1e6:.1f}M"


def rate(value: float | None) -> str:
    return NOTHING if value is None else f"{number(value)}/s"


def time(seconds: float | None) -> str:
    """At most six characters: 0.9ms, 45ms, 1.2s, 3.4min."""
    if seconds is None:
        return NOTHING
    if seconds < 0.00995:
        return f"{seconds * 1000:.1f}ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 99.5:
        return f"{seconds:.1f}s"
    return f"{seconds / 60:.0f}min"


def size(count: float | None) -> str:
    if count is None:
        return NOTHING
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= scale:
            return f"{count / scale:.3g}{unit}" if count < 100 * scale else f"{count / scale:.0f}{unit}"
    return f"{count:.0f}B"


def percent(share: float | None) -> str:
    if share is None:
        return NOTHING
    return f"{share:.0%}" if share >= 0.9995 or share < 0.0005 else f"{share:.1%}"
