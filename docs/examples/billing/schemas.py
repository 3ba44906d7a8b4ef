"""Invoices: what travels about them. One event type, its data, and the exchange it is published to."""

from __future__ import annotations

from decimal import Decimal
from typing import ClassVar, Literal
from uuid import UUID

from streams import Data, Event


class InvoiceData(Data):
    invoice_id: UUID
    customer_id: UUID
    amount: Decimal


class InvoiceIssued(Event):
    """An invoice is out, for the first time or anew with another amount."""

    exchange: ClassVar[str] = "invoices"
    entity: ClassVar[str] = "invoice_id"
    type: Literal["invoice.issued"] = "invoice.issued"
    data: InvoiceData
