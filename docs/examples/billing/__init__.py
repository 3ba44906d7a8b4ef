"""An event family that lives outside Agent Streams: invoices, stored by the same engine."""
