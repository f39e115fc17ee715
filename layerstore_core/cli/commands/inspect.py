"""`layerstore inspect`: show an image, or a chain of layers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.cli import output
from layerstore_core.cli.describe import details_lines, field_line, referrer_document, short_length
from layerstore_core.cli.parameters import IMAGE_OR_REMOTE, json_option, resolve_image_or_chain
from layerstore_core.cli.remote.option import Remote, remote_options
from layerstore_core.cli.session import Session
from layerstore_core.errors import ImageDoesNotExist, InvalidImage

if TYPE_CHECKING:
    from layerstore_core.images import ImageDetails
    from layerstore_core.store.store import LayerStore


@click.command()
@click.argument("image", metavar="IMAGE|CHAIN", type=IMAGE_OR_REMOTE)
@click.option("--raw", is_flag=True, help="Print the bytes of the image's config, and nothing else.")
@remote_options(verify=False)
@json_option
@click.pass_obj
def inspect(session: Session, image: str, raw: bool, *, remote: Remote | None) -> None:
    """Show an image: its config, platform, digests and layers.

    The layers are listed from the base on, each with its own size. A chain ID shows the layers of the chain only.
    With --raw the config is printed byte for byte: its sha256 is the image's ID.

    With --remote, IMAGE is the name of an image in a registry, which is not pulled: the answer has its manifest, and
    what an index lists. --raw then prints the manifest or index that the name stands for, or the manifest for
    --platform, byte for byte: its sha256 is the digest.

    \b
    Examples:
      layerstore inspect debian:12
      layerstore inspect debian:12 --json | jq .config.config.Env
      layerstore inspect debian:12 --raw | sha256sum
      layerstore inspect --remote registry.example.com/app:1.0 --platform linux/arm64
    """
    if raw and session.json:
        raise click.UsageError("--raw prints the document's own bytes; it cannot be combined with --json")
    if remote is not None:
        from layerstore_core.cli.remote.inspection import inspect_remote

        inspect_remote(session, image, remote, raw=raw)
        return
    with session.open(reading=True) as store:
        found = resolve_image_or_chain(store, image)
        if isinstance(found, ChainID):
            if raw:
                raise ImageDoesNotExist(f"{found} is a layer, not an image: it has no config; give an image")
            document = _chain_document(store, found)
        elif raw:
            out = output.StandardOutput()
            out.write(found.config.data)
            out.flush()
            return
        else:
            from layerstore_core.images import Images

            document = _image_document(Images(store).inspect(found))
    session.answer(document, lambda: _lines(document))


def _image_document(details: ImageDetails) -> dict[str, Any]:
    image = details.image
    try:
        json.dumps(image.config.document, indent=2, allow_nan=False)
    except (RecursionError, ValueError) as error:
        why = "is nested too deep" if isinstance(error, RecursionError) else "has a number that JSON does not have"
        raise InvalidImage(f"the config of image {image.image_id} {why}; --raw prints it as it is") from None
    return {
        "id": str(image.image_id),
        "names": list(image.names),
        "platform": None if image.platform is None else str(image.platform),
        "created": image.created,
        "digests": list(details.digests),
        "annotations": dict(details.annotations),
        "referrers": [referrer_document(one) for one in details.referrers],
        "parent": None if details.parent is None else str(details.parent),
        "size": image.size,
        "chain_id": None if image.chain_id is None else str(image.chain_id),
        "layers": [
            {
                "chain_id": str(layer.chain_id),
                "diff_id": str(layer.diff_id),
                "diff_size": layer.diff_size,
                "descriptor": None if layer.descriptor is None else dict(layer.descriptor),
            }
            for layer in details.layers
        ],
        "config": dict(image.config.document),
    }


def _chain_document(store: LayerStore, chain: ChainID) -> dict[str, Any]:
    """Return the keys of an image's document; those that only an image has are null, or empty."""
    with store.get(chain) as top:
        layers = [
            {
                "chain_id": str(layer.chain_id),
                "diff_id": str(layer.diff_id),
                "diff_size": layer.diff_size,
                "descriptor": None if layer.descriptor is None else dict(layer.descriptor),
            }
            for layer in top.chain()
        ]
        size = top.size
    return {
        "id": None,
        "names": [],
        "platform": None,
        "created": "",
        "digests": [],
        "annotations": {},
        "referrers": [],
        "parent": None,
        "size": size,
        "chain_id": str(chain),
        "layers": layers,
        "config": None,
    }


def _lines(document: Mapping[str, Any]) -> Iterator[str]:
    if document["id"] is not None:
        yield field_line("Image ID", document["id"])
        yield field_line("Names", ", ".join(document["names"]) or "none")
        for digest in document["digests"]:
            yield field_line("Digest", digest)
        yield field_line("Platform", document["platform"] or "unknown")
        yield field_line("Created", document["created"] or "unknown")
        if document["parent"]:
            yield field_line("Built from", document["parent"])
    yield field_line("Chain ID", document["chain_id"] or "none: the image has no layers")
    size = document["size"]
    yield field_line("Size", "layers missing" if size is None else f"{output.human_size(size)} ({size} bytes)")
    yield from details_lines(document)
    if document["layers"]:
        yield "Layers, the base first:"
        digits = short_length([ChainID(layer["chain_id"]) for layer in document["layers"]])
        rows = [("CHAIN ID", "DIFF ID", "SIZE")]
        for layer in document["layers"]:
            own = "missing" if layer["diff_size"] is None else output.human_size(layer["diff_size"])
            rows.append((ChainID(layer["chain_id"]).hex[:digits], layer["diff_id"], own))
        yield from (f"  {line}" for line in output.columns(rows))
