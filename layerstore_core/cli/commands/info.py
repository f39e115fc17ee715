"""`layerstore info`: the store, its driver, and where each setting came from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from layerstore_core._version import __version__
from layerstore_core.cli import output
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session


@click.command()
@json_option
@click.pass_obj
def info(session: Session) -> None:
    """Show the driver, counts, and where each setting comes from.

    \b
    Example:
      layerstore --root /srv/layers info
    """
    with session.open() as store:
        layers = store.layers()
        values = store.config.model_dump(mode="json")
        document: dict[str, Any] = {
            "version": __version__,
            "root": str(store.root),
            "driver": store.driver_name,
            "driver_status": [list(field) for field in store.driver_status()],
            "layers": len(layers),
            "pinned": len(store.pins()),
            "rw_layers": len(store.rw_layers()),
            "size": sum(layer.diff_size for layer in layers.values()),
            "problems": [{"path": str(p.path), "reason": p.reason} for p in store.load_problems],
            "configuration": {
                key: {"value": value, "source": store.config.sources[key]} for key, value in values.items()
            },
        }
    session.answer(document, lambda: _lines(document))


def _lines(document: dict[str, Any]) -> Iterator[str]:
    yield f"Version:         {document['version']}"
    yield f"Root:            {output.printable(document['root'])}"
    yield f"Driver:          {document['driver']}"
    for key, value in document["driver_status"]:
        yield f"  {output.printable(key)}: {output.printable(value)}"
    yield f"Layers:          {document['layers']} ({document['pinned']} pinned), {output.human_size(document['size'])}"
    yield f"Writable layers: {document['rw_layers']}"
    if document["problems"]:
        yield f"Problems:        {len(document['problems'])}; 'layerstore check' tells what to do"
        for problem in document["problems"]:
            yield f"  {output.printable(problem['path'])}: {output.printable(problem['reason'])}"
    yield "Configuration:"
    for key, setting in document["configuration"].items():
        yield f"  {key} = {_value(setting['value'])}  [{setting['source']}]"


def _value(value: Any) -> str:
    return "(not set)" if value is None else output.printable(str(value))
