#!/usr/bin/env python3
"""Makes the secrets that compose.yaml hands to its containers, in a folder `secrets` beside it.

    python3 infra/compose/make_secrets.py            # makes what is missing; a second run changes nothing
    python3 infra/compose/make_secrets.py --into /srv/streams/secrets

Random passwords, the URLs that hold them, and what the servers are given instead of them: SCRAM verifiers for
PostgreSQL, salted hashes for RabbitMQ, SHA-256 for Redis. Needs nothing but Python. The folder is closed to
others; the files in it are not, since the containers' users are none of this machine.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
from pathlib import Path
from secrets import token_bytes, token_urlsafe

INFRA = Path(__file__).resolve().parents[1]


def postgres_users() -> list[str]:
    logins = (INFRA / "postgres" / "logins.sql").read_text()
    return re.findall(r"\('streams_(\w+)', 'LOGIN", logins)


def rabbitmq_users() -> list[str]:
    definitions = json.loads((INFRA / "rabbitmq" / "definitions.json").read_text())
    return [user["name"].removeprefix("streams-") for user in definitions["users"]]


def redis_users() -> list[str]:
    lines = (INFRA / "redis" / "users.acl").read_text().splitlines()
    return [name.removeprefix("streams-") for line in lines if (name := line.split()[1]) != "default"]


def scram(password: str, salt: bytes) -> str:
    """The verifier that PostgreSQL stores instead of a password."""
    rounds = 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = base64.b64encode(hashlib.sha256(client).digest()).decode()
    server = base64.b64encode(hmac.digest(salted, b"Server Key", "sha256")).decode()
    return f"SCRAM-SHA-256${rounds}:{base64.b64encode(salt).decode()}${stored}:{server}"


def rabbit_hash(password: str, salt: bytes) -> str:
    """What RabbitMQ stores (rabbit_password_hashing_sha256): four bytes of salt, and the hash of both."""
    return base64.b64encode(salt + hashlib.sha256(salt + password.encode()).digest()).decode()


def make(passwords: dict[str, str], hosts: dict[str, str]) -> dict[str, str]:
    """The files' contents by name.

    Args:
        passwords: by `<server>-<user>`.
        hosts: `host:port` by server.
    """
    files: dict[str, str] = {}
    for name in postgres_users():
        files[f"database-{name}-url"] = (
            f"postgresql://streams_{name}:{passwords[f'postgres-{name}']}@{hosts['postgres']}/streams"
        )
    for name in rabbitmq_users():
        files[f"amqp-{name}-url"] = (
            f"amqp://streams-{name}:{passwords[f'rabbitmq-{name}']}@{hosts['rabbitmq']}/%2F"
        )
    for name in redis_users():
        files[f"redis-{name}-url"] = f"redis://streams-{name}:{passwords[f'redis-{name}']}@{hosts['redis']}/0"
    files["postgres-passwords.sql"] = "".join(
        f"ALTER ROLE streams_{name} PASSWORD '{scram(passwords[f'postgres-{name}'], token_bytes(16))}';\n"
        for name in postgres_users()
    )
    files["rabbitmq-definitions.json"] = _definitions(passwords)
    files["redis-users.acl"] = _redis_users(passwords)
    files["postgres-admin-password"] = passwords["postgres-admin"]
    files["postgres-monitor-password"] = passwords["postgres-monitor"]
    files["rabbitmq-admin-password"] = passwords["rabbitmq-admin"]
    files["grafana-admin-password"] = passwords["grafana-admin"]
    files["redis-monitor-password.json"] = json.dumps(
        {f"redis://streams-monitor@{hosts['redis']}": passwords["redis-monitor"]}
    )
    return files


def _definitions(passwords: dict[str, str]) -> str:
    """infra/rabbitmq/definitions.json with passwords, and somebody who may administrate."""
    definitions = json.loads((INFRA / "rabbitmq" / "definitions.json").read_text())
    for user in definitions["users"]:
        name = user["name"].removeprefix("streams-")
        user["password_hash"] = rabbit_hash(passwords[f"rabbitmq-{name}"], token_bytes(4))
        user["hashing_algorithm"] = "rabbit_password_hashing_sha256"
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    admin = rabbit_hash(passwords["rabbitmq-admin"], token_bytes(4))
    definitions["users"].append(
        {
            "name": "admin",
            "password_hash": admin,
            "hashing_algorithm": "rabbit_password_hashing_sha256",
            "tags": "administrator",
        }
    )
    definitions["permissions"].append({"user": "admin", "vhost": "/", **everything})
    return json.dumps(definitions, indent=2)


def _redis_users(passwords: dict[str, str]) -> str:
    lines = []
    for line in (INFRA / "redis" / "users.acl").read_text().splitlines():
        name = line.split()[1].removeprefix("streams-")
        password = passwords.get(f"redis-{name}")
        lines.append(f"{line} #{hashlib.sha256(password.encode()).hexdigest()}" if password else line)
    return "\n".join(lines) + "\n"


def names() -> list[str]:
    """All passwords that are needed."""
    return [
        *(f"postgres-{name}" for name in (*postgres_users(), "admin")),
        *(f"rabbitmq-{name}" for name in (*rabbitmq_users(), "admin")),
        *(f"redis-{name}" for name in redis_users()),
        "grafana-admin",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--into", type=Path, default=Path(__file__).parent / "secrets")
    folder = parser.parse_args().into
    hosts = {"postgres": "postgres:5432", "rabbitmq": "rabbitmq:5672", "redis": "redis:6379"}
    if (folder / "redis-users.acl").exists():
        print(f"{folder} is there already: remove it, and the servers' volumes, to begin anew")
        return
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    # URLs are read back by programs: no character that needs escaping.
    for name, content in make({name: token_urlsafe(24) for name in names()}, hosts).items():
        path = folder / name
        path.write_text(content)
        os.chmod(path, 0o444)
    print(f"made {folder}")


if __name__ == "__main__":
    main()
