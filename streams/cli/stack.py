"""`streams stack up|down|status`: private servers that stay until they are told to go."""

from __future__ import annotations

import json as json_module
import shlex
import shutil
from dataclasses import asdict
from typing import Annotated, Any

import typer

from streams.stack import LocalStack, StackStatus, StackUrls

app = typer.Typer(
    help="Private PostgreSQL, Redis and RabbitMQ from this machine's binaries.", no_args_is_help=True
)

Name = Annotated[str, typer.Option("--name", help="Stacks of different names are independent.")]
AsJson = Annotated[bool, typer.Option("--json", help="Report as JSON.")]
ShowSecrets = Annotated[bool, typer.Option("--show-secrets", help="Show the passwords.")]


@app.command("up")
def up(
    name: Name = "dev",
    export: Annotated[
        bool,
        typer.Option(
            "--export", help='Print shell lines with passwords: eval "$(streams stack up --export)"'
        ),
    ] = False,
    json: AsJson = False,
    show_secrets: ShowSecrets = False,
) -> None:
    """Start the servers and leave them running. Does nothing if they run already."""
    stack = LocalStack(name, die_with_parent=False)
    urls = stack.start()
    if export:
        for variable, value in urls.environment().items():
            print(f"export {variable}={shlex.quote(value)}")
        return
    _report([stack.status()], json=json, show_secrets=show_secrets)


@app.command("down")
def down(
    name: Name = "dev",
    every: Annotated[bool, typer.Option("--all", help="All stacks of this checkout.")] = False,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete their data, logs and passwords, too.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Stop the servers. Exit status 2 if another program is using them."""
    stopped = []
    for each in LocalStack.names() if every else [name]:
        stack = LocalStack(each, die_with_parent=False)
        was = stack.status().state
        stack.stop()
        if purge:
            shutil.rmtree(stack.folder, ignore_errors=True)
        stopped.append({"name": each, "was": was, "purged": purge})
    if json:
        print(json_module.dumps(stopped))
        return
    for entry in stopped:
        print(f"{entry['name']}: {'was not running' if entry['was'] == 'down' else 'stopped'}")


@app.command("status")
def status(
    name: Annotated[
        str | None, typer.Option("--name", help="One stack; all of this checkout if not given.")
    ] = None,
    json: AsJson = False,
    show_secrets: ShowSecrets = False,
) -> None:
    """Show what runs. Exit status 1 if the named stack (or, without a name, every stack) is down."""
    names = LocalStack.names() if name is None else [name]
    found = [LocalStack(each).status() for each in names]
    _report(found, json=json, show_secrets=show_secrets)
    if not any(stack.state == "up" for stack in found):
        raise typer.Exit(1)


def _report(stacks: list[StackStatus], *, json: bool, show_secrets: bool) -> None:
    if json:
        print(json_module.dumps([_as_json(stack, show_secrets=show_secrets) for stack in stacks]))
        return
    if not stacks:
        print("No local stack has been started in this checkout.")
    for stack in stacks:
        end = (
            "stays until `streams stack down`" if stack.owner is None else f"ends with process {stack.owner}"
        )
        print(f"{stack.name}: {stack.state}" + (f", {end}" if stack.state != "down" else ""))
        print(f"  folder      {stack.folder}")
        for service in stack.services:
            state = f"pid {service.pid}, port {service.port}" if service.running else "not running"
            print(f"  {service.name:<11} {state}")
        for key, url in _shown(stack.urls, show_secrets=show_secrets).items():
            print(f"  {key:<11} {url}")


def _as_json(stack: StackStatus, *, show_secrets: bool) -> dict[str, Any]:
    return {
        "name": stack.name,
        "folder": str(stack.folder),
        "state": stack.state,
        "owner": stack.owner,
        "services": [asdict(service) for service in stack.services],
        "urls": _shown(stack.urls, show_secrets=show_secrets),
    }


def _shown(urls: StackUrls | None, *, show_secrets: bool) -> dict[str, str]:
    if urls is None:
        return {}
    return asdict(urls) if show_secrets else urls.masked()
