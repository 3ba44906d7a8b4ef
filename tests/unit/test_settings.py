"""Settings: read once, refused with the variable's name, secrets masked."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.contract import BatchPolicy
from schemas.errors import ConfigurationError
from streams.settings import Settings


def test_a_prefetch_that_cannot_fill_the_batches_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMS_PREFETCH", "1000")
    settings = Settings.load()
    with pytest.raises(ConfigurationError, match=r"STREAMS_PREFETCH=1000 is below .* raise it to 1500"):
        settings.batch_policy(BatchPolicy(size=500, lanes=3))
    assert settings.batch_policy(BatchPolicy(size=300, lanes=3)).size == 300


def test_operators_override_handlers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMS_BATCH_SIZE", "50")
    monkeypatch.setenv("STREAMS_BATCH_LINGER_MS", "5")
    policy = Settings.load().batch_policy(BatchPolicy(size=500, linger=0.02, lanes=2))
    assert (policy.size, policy.linger, policy.lanes) == (50, 0.005, 2)


def test_a_number_of_lanes_that_an_operator_gives_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = BatchPolicy(size=500, lanes=1, spare=1)
    assert Settings.load().batch_policy(asked).spare == 1
    monkeypatch.setenv("STREAMS_LANES", "1")
    assert Settings.load().batch_policy(asked).spare == 0


def test_errors_name_the_variable_and_not_the_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMS_PREFETCH", "s3cret")
    with pytest.raises(ConfigurationError, match="STREAMS_PREFETCH") as caught:
        Settings.load()
    assert "s3cret" not in str(caught.value)


def test_passwords_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    schemes = {"AMQP_URL": "amqp", "DATABASE_URL": "postgresql", "REDIS_URL": "redis"}
    for name, scheme in schemes.items():
        monkeypatch.setenv(name, f"{scheme}://user:s3cret@host/")
    settings = Settings.load()
    assert settings.has_servers
    assert "s3cret" not in repr(settings) + str(settings)


def test_handlers_are_a_list_of_modules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMS_HANDLERS", "handlers.tasks, our.billing ,")
    assert Settings.load().handlers == ("handlers.tasks", "our.billing")


def test_a_url_may_stand_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    secret = tmp_path / "database-url"
    secret.write_text("postgresql://user:s3cret@127.0.0.1/streams\n")
    monkeypatch.setenv("DATABASE_URL_FILE", str(secret))
    monkeypatch.delenv("DATABASE_URL", raising=False)
    settings = Settings.load()
    assert settings.server_urls["DATABASE_URL"] == "postgresql://user:s3cret@127.0.0.1/streams"
    assert "s3cret" not in repr(settings)
    monkeypatch.setenv("DATABASE_URL", "postgresql://127.0.0.1/nearer")
    assert Settings.load().server_urls["DATABASE_URL"] == "postgresql://127.0.0.1/nearer"


@pytest.mark.parametrize("content", [None, b"\n", b"\xff"])
def test_a_url_file_of_no_use_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "url"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("AMQP_URL_FILE", str(path))
    monkeypatch.delenv("AMQP_URL", raising=False)
    with pytest.raises(ConfigurationError, match=r"^AMQP_URL_FILE: the file"):
        Settings.load()
