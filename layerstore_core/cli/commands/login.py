"""`layerstore login`: keep a user's name and password for a registry."""

from __future__ import annotations

import sys
from typing import Final

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import REGISTRY, json_option
from layerstore_core.cli.session import Session

_LONGEST: Final = 64 << 10


@click.command()
@click.argument("host", type=REGISTRY)
@click.option("-u", "--username", metavar="USER", help="Name of the user. [default: asked for]")
@click.option("--password-stdin", is_flag=True, help="Read the password, or a token, from standard input.")
@json_option
@click.pass_obj
def login(session: Session, host: str, username: str | None, password_stdin: bool) -> None:
    """Log in to a registry, and print where this is kept.

    On a terminal, the password is asked for, and not shown. The registry is asked whether it takes both before they are
    kept.

    They are kept where Docker and podman find them, too: in the file that REGISTRY_AUTH_FILE names; or else in the
    file that has an entry for the registry already; or else in Docker's (config.json in DOCKER_CONFIG or ~/.docker). If
    that file names a credential helper for the registry, they are kept by it. In a file they are not encrypted; only
    the user may read it.

    \b
    Example:
      printf secret | layerstore login registry.example.com -u ada --password-stdin
    """
    if password_stdin and not username:
        raise click.UsageError("--password-stdin needs --username")
    if not password_stdin and not sys.stdin.isatty():
        raise click.UsageError(
            "standard input is not a terminal, on which a password could be asked for; give --username USER and "
            "--password-stdin"
        )
    settings = session.config().registries
    if username is None:
        username = click.prompt("Username", err=True)
    if ":" in username:
        raise click.UsageError("the name of a user cannot have a ':' in it")
    password = _read() if password_stdin else click.prompt(f"Password of {username}", hide_input=True, err=True)
    if not password:
        raise click.UsageError("the password is empty")
    from layerstore_core.registry import Registry
    from layerstore_core.registry.credentials import Credentials, store_credentials

    given = Credentials(username=username, password=password)
    with Registry(host, settings=settings, credentials=given) as registry:
        registry.ping()
    place = store_credentials(host, given)
    session.answer(
        {"host": host, "username": username, "kept_in": place},
        lambda: [output.printable(place)],
    )


def _read() -> str:
    """Return the password on standard input, without the end of its line."""
    data = sys.stdin.buffer.read(_LONGEST + 1)
    if len(data) > _LONGEST:
        raise click.UsageError(f"the password on standard input is longer than {_LONGEST >> 10} KiB")
    try:
        return data.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise click.UsageError("the password on standard input is not UTF-8") from None
