"""Pushing images to a registry: a save whose output is a repository.

The configs come first, which are small. Then come layers, several at once: each is looked for, then mounted from
another repository of the registry, and only then sent. Manifests come after them, and the tag last of all. A push that
is interrupted therefore leaves blobs that nothing refers to, the tag is what it was, and the next push finds the blobs.

A layer keeps the digest that it came with, if the registry has that blob, the store has it or can make it again, or the
registry that it was pulled from gives it again.
Otherwise it is compressed, to a temporary file: the digest is needed before the upload, to find out whether the
registry has the blob, and a connection that breaks needs the bytes again. Writing and reading that file takes 2 % of
the time of compressing. How it was compressed is recorded, so that the next push of the layer has the digest without
that work.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final

from layerstore_core.base.reference import Reference
from layerstore_core.errors import LayerStoreError
from layerstore_core.images.image import Image
from layerstore_core.images.keep.compressed import CompressedLayers
from layerstore_core.images.keep.compression import Compression
from layerstore_core.images.keep.outgoing import Outgoing, kept_manifest
from layerstore_core.images.remote.events import BlobEvent, BlobProgress
from layerstore_core.images.remote.push.blobs import RepositoryOutput
from layerstore_core.images.remote.push.documents import ManifestPutter
from layerstore_core.images.remote.referrers import named_by
from layerstore_core.images.results import PushedBlob, PushedImage
from layerstore_core.images.transfer.save import SaveOptions, Saver
from layerstore_core.log import logger
from layerstore_core.records.blob_sources import BlobSources
from layerstore_core.records.kept import Origin, fit_names
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from layerstore_core.images.keep.layer_blobs import LayerBlob
    from layerstore_core.registry import Registry
    from layerstore_core.store.handles import Layer

#: So many layers are read, compressed and sent at once. Each takes some 25 MiB of memory.
_THREADS: Final = 3
#: How layers are compressed that never were: what every registry and every client reads.
#: Level 4 takes half the time of level 6, and makes 2 % more bytes.
_DEFAULT: Final = Compression.parse("gzip:4")


@dataclass(frozen=True, slots=True)
class PushOptions:
    """How an image is pushed.

    Attributes:
        compression: how to compress all layers; `None`: as they came, or else with gzip.
        referrers: whether to push its referrers, too.
        progress: called with the states of blobs.
    """

    compression: Compression | None = None
    referrers: bool = False
    progress: BlobProgress | None = None


def push_image(
    store: LayerStore,
    image: tuple[Outgoing, Sequence[Image]],
    target: Reference,
    registry: Registry,
    options: PushOptions,
) -> PushedImage:
    """Push an image, or the images for several platforms under one name.

    Args:
        store: the store of the images.
        image: what is to be pushed, with its images in the same order.
        target: where it goes.
        registry: the registry of the target.
        options: how it is pushed.

    Raises:
        LayerDoesNotExist, IntegrityError: a layer is missing or damaged.
        RegistryError: the registry does not take it.
        LayerStoreError: the target has a digest, and the image has another one; or referrers cannot be pushed.
    """
    out, images = image
    compressed = CompressedLayers(store)
    sources = BlobSources(store.context.image_db.path)
    output = RepositoryOutput(
        registry,
        target.domain,
        target.path,
        sources,
        foreign=_foreign_layers(store, out, images),
        configs=frozenset(map(str, out.images)),
        settings=store.context.config.registries,
        progress=options.progress,
    )
    for layer in {diff_id: None for image in images for diff_id in image.diff_ids}:
        output.layers[layer] = layer  # the digest of its blob where that is not compressed
        output.report("", "waiting", name=layer)

    # Who may not write there learns it before layers are compressed, which may take minutes.
    for member in images:
        data = member.config.data
        output.add(f"blobs/{str(member.image_id).replace(':', '/')}", len(data), [data])

    def reading(layer: Layer, done: int) -> None:
        output.report("", "compressing", name=layer.diff_id, done=done, size=layer.tar_size())

    def made(layer: Layer, blob: LayerBlob, how: Compression, file: BinaryIO) -> None:
        output.layers[blob.digest] = layer.diff_id
        if _may_record(store):
            with store.context.changing_images():
                recipe = how.recipe(blob.digest, blob.size, blob.media_type)
                compressed.record_made(layer.diff_id, blob.digest, recipe, file)

    saver = Saver(
        store,
        output,
        SaveOptions("registry", options.compression, referrers=options.referrers),
        compressed,
        otherwise=_DEFAULT if options.compression is None else None,
        places=output,
        made=made,
        reading=reading,
        threads=_THREADS,
    )
    with closing(output):
        saver.add(out, images)
        output.finish()
    top = saver.entries[0]
    digest = str(top["digest"])
    if target.digest is not None and target.digest != digest:
        raise LayerStoreError(
            f"{target.full_name}: the image's manifest would have the digest {digest}; nothing was pushed under the "
            "name. Give that digest, or a name without one"
        )
    putter = ManifestPutter(registry, target.path, saver.documents, _reporter(output, options.progress))
    referrers = putter.put(digest, target.tag, saver.entries[1:], out.origin.referrers if out.origin else ())
    if _may_record(store):
        try:
            with store.context.changing_images():
                output.record()
                _keep_manifest(store, saver, out)
        except (LayerStoreError, OSError) as error:
            logger.warning("{} was pushed, but not recorded; it may take longer again: {}", target.full_name, error)
    store.context.note_use(image.chain_id for image in images)
    name = replace(target, digest=None) if target.tag else target
    return PushedImage(
        name.full_name,
        digest,
        str(top["mediaType"]),
        tuple(_in_order(output.blobs, saver.documents)),
        tuple(saver.manifests.values()),
        tuple(referrers),
    )


def _in_order(blobs: Mapping[str, PushedBlob], documents: Mapping[str, bytes]) -> list[PushedBlob]:
    """Return blobs in the order in which manifests name them: they were sent in any order."""
    named: dict[str, None] = {}
    for data in documents.values():
        items = named_by(json.loads(data))
        # Layers come first: they are what takes time.
        for item in [*items[1:], *items[:1]]:
            named[str(item.get("digest"))] = None
    return [blobs[digest] for digest in named if digest in blobs]


def _reporter(output: RepositoryOutput, progress: BlobProgress | None) -> Callable[[str, int], None]:
    def report(digest: str, size: int) -> None:
        if progress is not None:
            progress(BlobEvent(digest, "manifest", "done", digest, size, size))

    return report


def _foreign_layers(store: LayerStore, out: Outgoing, images: Sequence[Image]) -> Mapping[str, int]:
    """Return the layers that are fetched from elsewhere, by their digests, with their sizes.

    They have URLs in the manifest that came in with the image. Registries do not take them, or need not have them
    (OCI image specification, "Non-Distributable Layers"; Docker's image manifest, "foreign" layers).
    """
    found: dict[str, int] = {}
    for image in images:
        kept = kept_manifest(store.context.kept, out.origin, image.image_id)
        layers: Any = None if kept is None else kept[1].get("layers")
        for layer in layers if isinstance(layers, list) else ():
            if isinstance(layer, dict) and layer.get("urls") and _is_foreign(str(layer.get("mediaType"))):
                size = layer.get("size")
                found[str(layer.get("digest"))] = size if isinstance(size, int) else 0
    return found


def _is_foreign(media_type: str) -> bool:
    return ".nondistributable." in media_type or ".foreign." in media_type


def _may_record(store: LayerStore) -> bool:
    """Return whether the store can be changed: another program may use it, or this user may only read it."""
    return not store.context.read_only and store.context.locks.writable


def _keep_manifest(store: LayerStore, saver: Saver, out: Outgoing) -> None:
    """Make the manifest of an image that came without one its origin, so that it keeps its digest."""
    if len(out.images) != 1 or (out.origin is not None and out.origin.images):
        return
    image, entry = out.images[0], saver.entries[0]
    data, kept = saver.documents[entry["digest"]], store.context.kept
    if not store.context.image_db.has(image):  # another process has removed it meanwhile
        return
    origin = Origin(
        target={key: entry[key] for key in ("mediaType", "digest", "size")},
        images={image: entry["digest"]},
        annotations={} if out.origin is None else out.origin.annotations,
        documents=(entry["digest"],),
    )
    with kept.putting() as put:
        put(entry["digest"], data)
    if out.name is not None and kept.of_name(out.name, image) is not None:
        changed, left_out = fit_names(kept.names(), {out.name: (image, origin)}, from_outside=False)
        if not left_out:
            kept.set_names(changed)
    else:
        kept.set_image(image, origin)
