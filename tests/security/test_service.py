"""The service over TLS under least-privileged users: it works, and nobody may do more than its work."""

from __future__ import annotations

from tests.security.service import LETTERS, Evidence


def test_every_process_does_its_work_with_its_own_rights_over_tls(evidence: Evidence) -> None:
    statuses = [status for status, _ in evidence.served]
    assert (statuses[0], statuses[-1]) == ("pending", "completed")
    assert ("pending", "hit") in evidence.served, "Redis served a reader"
    assert evidence.unauthorized == 401
    assert evidence.denied == []
    assert sorted(reason for reason, _ in evidence.letters) == sorted(
        ["handler_failed"] * 1 + ["database_refused"] * 2 + ["invalid_event"] * 2 + ["undecodable"]
    )
    assert len(evidence.letters) == LETTERS
    assert '"cache_bus":"up"' in evidence.pages["api/readyz"]
    assert "streams_cache_bus_up 1.0" in evidence.pages["api/metrics"]
    for process in ("worker", "updater", "api"):
        assert '"ready"' in evidence.pages[f"{process}/readyz"]
