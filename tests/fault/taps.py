"""Taps for the proxy: faults that depend on what is said on the link."""

from __future__ import annotations

from tests.fault.proxy import Link, Tapped, Way


class CutAfterCommit:
    """Between a service and PostgreSQL: the server commits, and its answer never arrives.

    Nothing is cut until `armed` says how many commits are to be. The client cannot know whether its
    transaction took effect (it did).
    """

    def __init__(self, armed: int = 0) -> None:
        self.armed = armed
        self.cut = 0
        """Commits whose answer was withheld."""

    def __call__(self, link: Link, way: Way, data: bytes) -> Tapped:
        if way is Way.UP:
            if self.armed and b"COMMIT" in data:
                link.notes["committing"] = True
                self.armed -= 1
        elif link.notes.pop("committing", False):
            self.cut += 1
            return Tapped.RESET
        return Tapped.PASS
