"""`layerstore tags`: list the tags of a repository in a registry."""

from __future__ import annotations

from itertools import islice
from typing import Final

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session
from layerstore_core.errors import InvalidReference

#: More tags than this are not listed: no repository has as many, and a server may send them without end.
_MOST: Final = 1_000_000
_LINES: Final = 1000


@click.command()
@click.argument("repository")
@json_option
@click.pass_obj
def tags(session: Session, repository: str) -> None:
    """List the tags of a repository in a registry.

    They are in the order of the registry. REPOSITORY is the name of an image without a tag, such as
    registry.example.com/app. A name without a registry is one of docker.io.

    \b
    Example:
      layerstore tags registry.example.com/app
    """
    from layerstore_core.base.reference import Reference

    target = Reference.parse(repository, default_tag=None)
    if target.tag or target.digest:
        raise InvalidReference(
            f"{output.printable(repository[:300])!r} names one image; give the repository: {target.repository}"
        )
    settings = session.config().registries
    from layerstore_core.registry import Registry

    with Registry(target.domain, settings=settings) as registry:
        found = islice(registry.tags(target.path), _MOST)
        if session.json:
            session.answer({"repository": target.repository, "tags": list(found)}, lambda: ())
            return
        # A page at a time, so that a long list is seen before it is complete.
        while lines := list(islice(found, _LINES)):
            output.write_lines(map(output.printable, lines))
