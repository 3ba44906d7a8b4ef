"""Judgements that several servers share."""

from __future__ import annotations

from streams.doctor.model import Finding, critical, ok, unless
from streams.doctor.patient import Patient


def clock_finding(patient: Patient, ahead: float, *, resolution: float = 0.0) -> Finding:
    """Of a server's clock that is this many seconds ahead of ours, told to within `resolution`."""
    apart = max(0.0, abs(ahead) - resolution)
    measured = f"{abs(ahead):.3g} s {'ahead' if ahead > 0 else 'behind'}" if apart > 0.001 else "the same"
    if apart > patient.limits.broken_clock_seconds:
        return critical(measured)
    return unless(apart < patient.limits.clock_seconds, measured)


def link_finding(*, secure: bool, local: bool) -> Finding:
    """Of a link that its URL asks TLS for, or not."""
    if secure:
        return ok("TLS, verified")
    return ok("plaintext on loopback") if local else critical("plaintext to another machine")
