"""`layerstore info`: show the store, its driver, and the source of each setting."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from layerstore_core._version import __version__
from layerstore_core.base.kernels import engine
from layerstore_core.cli import output
from layerstore_core.cli.parameters import REPOSITORY, json_option
from layerstore_core.cli.remote.registries import file_lines, registry_document, registry_files, registry_lines
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.config.model import StoreConfig


@click.command()
@click.option(
    "--registry",
    metavar="HOST[/REPOSITORY]",
    type=REPOSITORY,
    help="Show what applies to a registry, in place of the store.",
)
@json_option
@click.pass_obj
def info(session: Session, registry: str | None) -> None:
    """Show the store, its driver and the source of each setting.

    Without a store yet, it shows the settings and the driver that a new store would get.

    With --registry it shows where requests for a registry, or for one of its repositories, go, in their order; which
    settings and files of other programs decide that; and whose credentials are used. The registry is not asked.

    \b
    Examples:
      layerstore info
      layerstore --root /srv/layers info
      layerstore info --registry docker.io/library/debian
    """
    config = session.config()
    if registry is not None:
        shown = registry_document(registry, config.registries)
        session.answer(shown, lambda: registry_lines(shown))
        return
    from layerstore_core.store.locate import has_store

    exists = has_store(config.root)
    document: dict[str, Any] = {
        "version": __version__,
        "engine": {"kernels": engine().kernels is not None, "reason": engine().reason},
        "root": str(config.root),
        "exists": exists,
        **(_contents(session) if exists else _empty_contents(config)),
        "configuration": {
            key: {"value": value, "source": config.sources[key]} for key, value in config.document().items()
        },
        "registry_files": registry_files(),
    }
    session.answer(document, lambda: _lines(document))


def _contents(session: Session) -> dict[str, Any]:
    """Return the driver, the counts and the load problems of the store."""
    with session.open(reading=True, content=True) as store:
        layers = store.layers()
        return {
            "driver": store.driver_name,
            "driver_status": [list(field) for field in store.driver_status()],
            "layers": len(layers),
            "pinned": len(store.pins()),
            "rw_layers": len(store.rw_layers()),
            "snapshots": len(store.context.snapshots.ready()),
            "size": sum(layer.diff_size for layer in layers.values()),
            "problems": [{"path": p.path, "reason": p.reason} for p in store.load_problems],
        }


def _empty_contents(config: StoreConfig) -> dict[str, Any]:
    """Return the fields of `_contents` for a store that would be created now."""
    from layerstore_core.driver.open import check_options
    from layerstore_core.driver.registry import driver_name, load_driver
    from layerstore_core.driver.select import select_driver

    check_options(config)
    name = select_driver(config)
    return {
        "driver": driver_name(load_driver(name), name),
        "driver_status": [],
        "layers": 0,
        "pinned": 0,
        "rw_layers": 0,
        "snapshots": 0,
        "size": 0,
        "problems": [],
    }


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield f"Version:         {document['version']}"
    how = "kernels in C" if document["engine"]["kernels"] else "Python alone"
    yield f"Engine:          {how}: {output.printable(document['engine']['reason'])}"
    absent = "" if document["exists"] else "  (no store there yet; 'layerstore register' creates it)"
    yield f"Root:            {output.printable(document['root'])}{absent}"
    yield f"Driver:          {document['driver']}"
    for key, value in document["driver_status"]:
        yield f"  {output.printable(key)}: {output.printable(value)}"
    yield f"Layers:          {document['layers']} ({document['pinned']} pinned), {output.human_size(document['size'])}"
    yield f"Writable layers: {document['rw_layers']}"
    if document["snapshots"]:
        yield f"Snapshots:       {document['snapshots']}"
    if document["problems"]:
        yield f"Problems:        {len(document['problems'])}; run 'layerstore check' to see what to do"
        for problem in document["problems"]:
            yield f"  {output.printable(problem['path'])}: {output.printable(problem['reason'])}"
    yield "Configuration:"
    for key, setting in document["configuration"].items():
        yield f"  {key} = {_value(setting['value'])}  [{setting['source']}]"
    yield from file_lines(document["registry_files"])


def _value(value: Any) -> str:
    return "(not set)" if value is None else output.printable(str(value))
