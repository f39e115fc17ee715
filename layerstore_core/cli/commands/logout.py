"""`layerstore logout`: remove the user's name and password for a registry."""

from __future__ import annotations

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import REGISTRY, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("host", type=REGISTRY, required=False)
@click.option("-a", "--all", "everything", is_flag=True, help="Log out of all registries.")
@json_option
@click.pass_obj
def logout(session: Session, host: str | None, everything: bool) -> None:
    """Log out of a registry, and print where the credentials were.

    They are removed from all files in which layerstore finds them, which Docker and podman use, too, and from the
    credential helpers that those name. If there are none, nothing is printed. Credentials for single repositories of
    the registry stay, unless --all is given.

    \b
    Examples:
      layerstore logout registry.example.com
      layerstore logout --all
    """
    if everything == (host is not None):
        raise click.UsageError("give either HOST or --all")
    session.config()
    from layerstore_core.registry.credentials import erase_all_credentials, erase_credentials

    removed = erase_all_credentials() if host is None else erase_credentials(host)
    session.answer({"host": host, "removed_from": removed}, lambda: map(output.printable, removed))
