"""How events are gathered into transactions: the same for everything that is written to PostgreSQL."""

from __future__ import annotations

from typing import Final

from schemas.contract import BatchPolicy

# Large and one at a time: what several events say of one row is written once, and rows that are sorted find
# their index pages at hand (docs/decisions/0021-one-transaction-at-a-time.md, 0022-spare-lanes.md).
WRITES: Final = BatchPolicy(size=4000, linger=0.01, lanes=1, spare=1)
