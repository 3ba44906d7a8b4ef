"""The invoices' handler, tested as the engine runs it: no broker, a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from billing.handlers import stream
from billing.schemas import InvoiceData, InvoiceIssued
from streams.testkit import Crash, assert_converges, assert_lock_order
from streams.testkit.fixtures import KitFactory

START = datetime.now(UTC) - timedelta(days=1)  # dates must lie in the window that the service accepts
CUSTOMER = UUID(int=99)


def issued(number: int, amount: str = "10.00", *, minutes: int = 0) -> InvoiceIssued:
    """Invoice `number`, issued so many minutes after START."""
    return InvoiceIssued(
        id=f"{number}-{minutes}-{amount}",
        source="billing",
        time=START + timedelta(minutes=minutes),
        data=InvoiceData(invoice_id=UUID(int=number), customer_id=CUSTOMER, amount=Decimal(amount)),
    )


async def test_an_invoice_is_stored_and_its_customer_told(streams_kit: KitFactory) -> None:
    async with streams_kit(stream) as kit:
        run = await kit.run([issued(1, "20.50"), issued(1, "10.00", minutes=-5), issued(1, "20.50")])
        assert run.repeats == 1
        assert run.keys == {f"q:invoices:{CUSTOMER}"}
        (invoice,) = (await kit.state("invoices"))["invoices"]
        assert (invoice["id"], invoice["amount"]) == (UUID(int=1), Decimal("20.50"))


@pytest.mark.parametrize("crash", Crash)
async def test_a_worker_that_dies_loses_nothing_and_stores_nothing_twice(
    streams_kit: KitFactory, crash: Crash
) -> None:
    async with streams_kit(stream) as kit:
        await kit.run([issued(1), issued(2)], crash=crash)
        await kit.recover()
        assert len((await kit.state("invoices"))["invoices"]) == 2
        assert await kit.connection.fetchval("SELECT count(*) FROM event_history") == 2
        assert {message.type for message in kit.published} == {"cache.invalidated"}


async def test_any_order_and_any_number_of_deliveries_give_one_state(streams_kit: KitFactory) -> None:
    events = [issued(n, f"{n}.{m:02}", minutes=m) for n in (1, 2, 3) for m in (0, 5, 10)]
    async with streams_kit(stream) as kit:
        state = await assert_converges(kit, events, ["invoices"])
    assert [row["amount"] for row in state["invoices"]] == [Decimal(f"{n}.10") for n in (1, 2, 3)]


async def test_rows_are_locked_in_order(streams_kit: KitFactory) -> None:
    async with streams_kit(stream) as kit:
        await assert_lock_order(kit, [issued(n) for n in (3, 1, 2)], {"invoices": "id"})
