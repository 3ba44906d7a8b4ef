"""What happens: invoices are merged into one row each, and caches of the customer are told."""

from __future__ import annotations

from typing import Any

from billing.schemas import InvoiceIssued
from streams import Batch, BatchPolicy, Changes, Stream

stream = Stream("billing")

# The latest event by (time, rank, source, id) wins, whatever the order of arrival; rows in key order.
MERGE_INVOICES = """
INSERT INTO invoices AS i (id, customer_id, amount, stamp)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::numeric[], $4::bytea[]) AS n (id, customer_id, amount, stamp)
ORDER BY n.id
ON CONFLICT (id) DO UPDATE
SET customer_id = excluded.customer_id, amount = excluded.amount, stamp = excluded.stamp
WHERE i.stamp < excluded.stamp
RETURNING customer_id
"""


@stream.handler(exchange="invoices", events=InvoiceIssued, batch=BatchPolicy(size=500, linger=0.02))
async def record_invoices(batch: Batch[InvoiceIssued], tx: Any) -> Changes:
    """Store invoices."""
    latest = {event.data.invoice_id: event for event in sorted(batch.events, key=lambda event: event.stamp)}
    invoices = [event.data for event in latest.values()]
    changed = await tx.fetch(
        MERGE_INVOICES,
        [invoice.invoice_id for invoice in invoices],
        [invoice.customer_id for invoice in invoices],
        [invoice.amount for invoice in invoices],
        [event.stamp for event in latest.values()],
    )
    return Changes(keys={f"q:invoices:{row['customer_id']}" for row in changed})
