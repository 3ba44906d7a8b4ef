"""What a URL may say about TLS, and what the settings add to it."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import pytest
import trustme

from schemas.errors import ConfigurationError
from streams import tls
from streams.database import tls_for
from streams.settings import Settings

SECURE = {
    "AMQP_URL": "amqps://u:p@broker/%2F",
    "DATABASE_URL": "postgresql://u:p@db/d?sslmode=require",
    "REDIS_URL": "rediss://u:p@cache/0",
}
PLAIN = {
    "AMQP_URL": "amqp://u:p@broker/",
    "DATABASE_URL": "postgresql://u:p@db/d",
    "REDIS_URL": "redis://u:p@cache/0",
}
LOCAL = {
    "AMQP_URL": ["amqp://localhost/", "amqp://127.0.0.1:1/", "amqp://[::1]:1/"],
    "DATABASE_URL": [
        "postgresql://u@127.0.0.9,localhost:5/d",
        "postgresql:///d?host=/run/postgresql",
        "postgresql://u@[::1]:1/d",
        "postgresql://%2Frun%2Fpostgresql/d",
    ],
    "REDIS_URL": ["redis://localhost", "unix:///run/redis.sock"],
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in (*SECURE, "STREAMS_PROFILE", "STREAMS_TLS_CA_FILE", "STREAMS_ALLOW_PLAINTEXT"):
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def loaded(name: str) -> str:
    value = getattr(Settings.load(), name.lower())
    return str(value.get_secret_value())


@pytest.mark.parametrize("name", SECURE)
def test_the_files_of_the_settings_reach_every_client_by_its_url(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    for variable, value in {"CA": "/ca file.pem", "CERT": "/cert.pem", "KEY": "/key.pem"}.items():
        environment.setenv(f"STREAMS_TLS_{variable}_FILE", value)
    environment.setenv(name, SECURE[name])
    dialect = {d.variable: d for d in (tls.AMQP, tls.POSTGRES, tls.REDIS)}[name]
    assert dialect.files(urlsplit(loaded(name))) == tls.Files("/ca file.pem", "/cert.pem", "/key.pem")
    assert "+" not in loaded(name)
    own = f"{SECURE[name]}{'&' if '?' in SECURE[name] else '?'}{dialect.ca}=/own.pem"
    environment.setenv(name, own)
    assert dialect.files(urlsplit(loaded(name))).ca == "/own.pem"
    environment.setenv(name, loaded(name))  # children are given what their parent made of it
    assert dialect.files(urlsplit(loaded(name))).ca == "/own.pem"


@pytest.mark.parametrize("name", PLAIN)
def test_plaintext_to_other_hosts_is_refused_where_tls_is_meant(
    environment: pytest.MonkeyPatch, name: str
) -> None:
    environment.setenv(name, PLAIN[name])
    assert loaded(name) == PLAIN[name]
    for variable, value in {"STREAMS_PROFILE": "production", "STREAMS_TLS_CA_FILE": "/ca.pem"}.items():
        with environment.context() as inside:
            inside.setenv(variable, value)
            with pytest.raises(
                ConfigurationError, match=rf"{name} is plaintext .* STREAMS_ALLOW_PLAINTEXT=1"
            ):
                Settings.load()
            inside.setenv("STREAMS_ALLOW_PLAINTEXT", "1")
            assert loaded(name) == PLAIN[name]
            inside.delenv("STREAMS_ALLOW_PLAINTEXT")
            for url in LOCAL[name]:
                inside.setenv(name, url)
                assert loaded(name) == url
            inside.setenv(name, SECURE[name])
            assert loaded(name).startswith(SECURE[name].partition("?")[0])


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://a,localhost/d",
        "postgresql://localhost/d?host=db",
        "postgresql://localhost,db:5/d?sslmode=disable",
        "postgresql://127.0.0.1.example/d",
    ],
)
def test_every_host_of_a_database_url_counts(environment: pytest.MonkeyPatch, url: str) -> None:
    environment.setenv("STREAMS_PROFILE", "production")
    environment.setenv("DATABASE_URL", url)
    with pytest.raises(ConfigurationError, match="plaintext"):
        Settings.load()


@pytest.mark.parametrize(
    ("name", "url", "says"),
    [
        ("AMQP_URL", "amqps://h/?no_verify_ssl=1", "must not switch off"),
        ("AMQP_URL", "amqp://h/?cafile=/a.pem", "does not ask for TLS: use amqps://"),
        ("AMQP_URL", "http://h/", "must start with amqp:// or amqps://"),
        ("DATABASE_URL", "postgresql://h/d?sslrootcert=/a.pem", "does not ask for TLS"),
        ("DATABASE_URL", "postgresql://h/d?sslmode=yes", "sslmode must be one of"),
        ("DATABASE_URL", "postgresql://h/d?sslmode=require&sslcrl=/a.crl", "sslcrl is not supported"),
        ("DATABASE_URL", "mysql://h/d", "must start with postgresql://"),
        ("REDIS_URL", "rediss://h/0?ssl_cert_reqs=none", "must not switch off"),
        ("REDIS_URL", "rediss://h/0?ssl_check_hostname=", "must not switch off"),
        ("REDIS_URL", "redis://h/0?ssl_ca_certs=/a.pem", "use rediss://"),
        ("REDIS_URL", "rediss://h/0?ssl_ciphers=NULL", "ssl_ciphers is not supported"),
    ],
)
def test_a_url_that_weakens_or_contradicts_itself_is_refused(
    environment: pytest.MonkeyPatch, name: str, url: str, says: str
) -> None:
    environment.setenv(name, url)
    with pytest.raises(ConfigurationError, match=says) as caught:
        Settings.load()
    assert str(caught.value).startswith(name)


@pytest.mark.parametrize("character", ["/", "?", "#", ":9/", "9#"])
@pytest.mark.parametrize("name", PLAIN)
def test_a_password_that_is_not_escaped_is_refused_and_not_repeated(
    environment: pytest.MonkeyPatch, name: str, character: str
) -> None:
    environment.setenv(name, PLAIN[name].replace(":p@", f":sesame{character}sesame@"))
    with pytest.raises(
        ConfigurationError, match=f"{name} cannot be read: write special characters"
    ) as caught:
        Settings.load()
    assert "sesame" not in str(caught.value)


def test_files_that_are_not_there_or_not_pem_are_named(tmp_path: Path) -> None:
    rubbish = tmp_path / "rubbish.pem"
    rubbish.write_text("rubbish")
    for path, says in {"/nowhere/ca.pem": "cannot be read", str(rubbish): "not usable PEM"}.items():
        with pytest.raises(ConfigurationError, match=f"{path}.* {says}|{says}"):
            tls_for(f"postgresql://h/d?sslmode=require&sslrootcert={path}")


def test_a_ca_file_is_the_only_authority(tmp_path: Path) -> None:
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    context = tls.context(tls.Files(ca=str(tmp_path / "ca.pem")))
    assert len(context.get_ca_certs()) == 1
    assert context.check_hostname


def test_a_key_without_its_certificate_is_refused(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("STREAMS_TLS_KEY_FILE", "/key.pem")
    with pytest.raises(ConfigurationError, match="without STREAMS_TLS_CERT_FILE"):
        Settings.load()
