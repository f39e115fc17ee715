"""`layerstore driver …`: what an author of a driver needs."""

from __future__ import annotations

import shlex

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import PathType, json_option
from layerstore_core.cli.session import Session

#: Written out, and not asked of `new_driver`, so that help texts load nothing. A test compares them.
KIND_NAMES = ("copy", "overlay", "image", "pool")


@click.group()
def driver() -> None:
    """Make the package of a new driver.

    \b
    Example:
      layerstore driver new my-driver
    """


@driver.command()
@click.argument("name")
@click.argument("directory", metavar="[DIR]", required=False, type=PathType(file_okay=False, readable=False))
@click.option(
    "--kind",
    type=click.Choice(KIND_NAMES),
    default="copy",
    show_default=True,
    help="How the driver keeps layers.",
)
@json_option
@click.pass_obj
def new(session: Session, name: str, directory: str | None, kind: str) -> None:
    """Make the package of a new driver, and print what to do next.

    NAME is what users will write after --driver: lower-case letters, digits and hyphens. DIR is a new or empty
    directory. [default: layerstore-driver-NAME in the current directory]

    The package keeps the contract as it is. It has tests, with the conformance kit, a README file and a workflow that
    tests and publishes it. Change it step by step, and run the tests after each step. There are four kinds:

    \b
      copy     a layer is a directory, which begins as a copy of its parent: no privileges needed
      overlay  a layer's own files are apart, and overlayfs merges them: root, or a user namespace
      image    a layer is one compressed file, which is unpacked while the layer is used
      pool     each file is kept once, and layers have hard links to it

    \b
    Examples:
      layerstore driver new my-driver
      layerstore driver new my-images --kind image my-images
    """
    from layerstore_core.new_driver import KINDS, make_driver

    try:
        made = make_driver(name, KINDS[kind], directory)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    commands = [
        f"cd {shlex.quote(made.directory)}",
        "pip install -e '.[test,lint]'",
        "pytest -q --conformance-only lifecycle",
        f"layerstore conformance {made.name} --quick --jobs 2",
    ]
    document = {
        "name": made.name,
        "kind": made.kind.name,
        "package": made.package,
        "module": made.module,
        "file": made.directory,
        "files": list(made.files),
        "next": commands,
    }

    def lines() -> list[str]:
        where = output.printable(made.directory)
        return [
            f"{where} is made: a driver whose layers are each {made.kind.keeps}.",
            f"Its code is in {made.module}/__init__.py. Next, in a virtual environment:",
            "",
            *(f"  {output.printable(command)}" for command in commands),
        ]

    session.answer(document, lines)
