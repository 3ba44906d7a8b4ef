"""Why a connection could not be made, as one line for an operator: what is wrong and what to do about it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from typing import Final

from schemas.errors import Unavailable

# X509_V_ERR_* of OpenSSL.
_EXPIRED: Final = 10
_NOT_YET: Final = 9
_OTHER_HOST: Final = (62, 64)
_UNTRUSTED: Final = (2, 18, 19, 20, 21, 27)

_OTHER_NAME: Final = (
    "the server's certificate is not for the host in the URL: use the name that it was issued for, "
    "or issue it for this one"
)
_UNKNOWN: Final = (
    "the server's certificate is signed by nobody we trust: set STREAMS_TLS_CA_FILE to the certificate "
    "of its authority, or name that file in the URL"
)
_PLAINTEXT: Final = (
    "the server does not speak TLS on this port: name its TLS port, or switch TLS on there "
    "(we do not fall back to plaintext)"
)
_ASKS: Final = "the server asks for a client certificate: set STREAMS_TLS_CERT_FILE"
_TLS_ONLY: Final = "PostgreSQL takes connections with TLS only: add ?sslmode=verify-full to DATABASE_URL"

# What the other side says by a TLS alert, or says instead of TLS.
_BY_REASON: Final = {
    "WRONG_VERSION_NUMBER": _PLAINTEXT,
    "RECORD_LAYER_FAILURE": _PLAINTEXT,
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": _ASKS,
    "SSLV3_ALERT_HANDSHAKE_FAILURE": f"we share no TLS version and cipher, or {_ASKS}",
    "TLSV1_ALERT_UNKNOWN_CA": "the server does not trust our certificate: look at STREAMS_TLS_CERT_FILE",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the server speaks no TLS version from 1.2 on: renew it",
}

# libpq has words only.
_BY_WORDS: Final = {
    "certificate verify failed": f"{_UNKNOWN}; or it has expired: renew it",
    "does not match host name": _OTHER_NAME,
    "server does not support SSL": _PLAINTEXT,
    "rejected SSL upgrade": _PLAINTEXT,
    "no encryption": _TLS_ONLY,
}


def reason(error: BaseException) -> str:
    """What is wrong and what to do about it, else the error's type: holds no URL, user or password."""
    return explain(error) or type(error).__name__


def explain(error: BaseException) -> str | None:
    """The same for an error that has to do with TLS; None for any other."""
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, Unavailable):
            return str(each)
        if isinstance(each, ssl.SSLCertVerificationError):
            return _certificate(each)
        if isinstance(each, ssl.SSLError) and (known := _BY_REASON.get(each.reason or "")):
            return known
    # Only then words: clients wrap the errors above in their own, which quote them.
    for each in chain:
        of_a_server = isinstance(each, OSError) or type(each).__module__.startswith(("asyncpg", "psycopg"))
        words = str(each) if of_a_server else ""
        if found := next((told for said, told in _BY_WORDS.items() if said in words), None):
            return found
    return None


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    code = error.verify_code
    if code in _OTHER_HOST:
        return _OTHER_NAME
    if code == _EXPIRED:
        return "the server's certificate has expired: renew it"
    if code == _NOT_YET:
        return "the server's certificate is not valid yet: look at the clocks"
    if code in _UNTRUSTED:
        return _UNKNOWN
    return f"the server's certificate is not acceptable: {error.verify_message}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, what caused it, and what is inside a group of errors."""
    waiting, seen = [error], set[int]()
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [e for e in (each.__cause__, each.__context__) if e is not None]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
