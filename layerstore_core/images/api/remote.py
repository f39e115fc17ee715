"""Images in registries, as methods of `Images`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layerstore_core.base.reference import Reference
from layerstore_core.errors import InvalidReference
from layerstore_core.images.api.base import OfStore
from layerstore_core.images.arguments import new_name
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.results import PulledImages, PushedImage

if TYPE_CHECKING:
    from layerstore_core.images.remote.events import BlobProgress


class Remote(OfStore):
    """The methods of `Images` that talk to registries."""

    def pull(
        self,
        reference: str,
        *,
        platform: Platform | str | Sequence[str] | None = None,
        all_platforms: bool = False,
        name: str | None = None,
        referrers: bool = False,
        progress: BlobProgress | None = None,
    ) -> PulledImages:
        """Pull an image from its registry. Layers that the store has are not received.

        All digests are verified. The manifest and the index are kept byte for byte. Layers are unpacked while they are
        received, several at once. What an interrupted pull has received stays for the next one, for some days; a layer
        that another process receives is waited for.

        Args:
            reference: its name, such as `"debian:12"` or `"registry.example.com/app@sha256:…"`. An image that is given
                by its digest gets only this as its name.
            platform: the platform to pull of a multi-platform image, such as `"linux/arm64"`. With `None` it is this
                host's platform, or the only one that the image has.
            all_platforms: pull the images for all platforms, which have the name in common, with their attestations.
            name: the name for the image in the store, instead of the one that it has in the registry.
            referrers: pull what refers to the image, too: signatures, SBOMs, attestations and other artifacts.
            progress: called with the state of each layer (`layerstore_core.images.remote.events`).

        Returns:
            The images, and what was received.

        Raises:
            InvalidReference: `reference` or `name` is not a valid name of an image.
            RegistryError: the registry has no such image, or does not give it.
            InvalidImage: it is damaged, is for another platform, or is no image; the store is unchanged.
            OSError: the system refuses an operation; the store is unchanged.
            ValueError, TypeError: `platform` is not a platform.
        """
        # Lazy: most commands on images talk to no registry.
        from layerstore_core.images.remote.plan import PullOptions
        from layerstore_core.images.remote.pull import pull
        from layerstore_core.registry import Registry

        wanted = Reference.parse(reference)
        options = PullOptions(
            None if platform is None else Platform.of(platform), all_platforms, new_name(name), referrers, progress
        )
        with Registry(wanted.domain, settings=self._store.context.config.registries) as registry:
            pulled = pull(self._store, registry, wanted, options)
        return PulledImages(
            self._loaded_images(pulled.loaded, pulled.skipped),
            name=wanted.full_name,
            digest=pulled.digest,
            fetched=pulled.fetched,
            downloaded=pulled.downloaded,
            present=pulled.present,
        )

    def push(
        self,
        name: str,
        ref: str | None = None,
        *,
        platform: Platform | str | Sequence[str] | None = None,
        all_platforms: bool = False,
        compression: str | None = None,
        referrers: bool = False,
        progress: BlobProgress | None = None,
    ) -> PushedImage:
        """Push an image to a registry.

        Blobs that the registry has are not sent. The name there changes last: a push that is interrupted leaves it as
        it was, and the next one sends only what is missing. A layer keeps the digest that it came with, if the registry
        has that blob, or the store has it or can make it again, or the registry that it was pulled from gives it again;
        otherwise it is compressed with gzip, level 4, always to the same bytes. Foreign layers, which have URLs of
        their own, are not pushed.

        Args:
            name: the image's name or ID.
            ref: the name to push to: `REGISTRY/REPOSITORY:TAG`; without a registry it is Docker Hub. If it has a
                digest, the image must have it. With `None` it is the image's own name.
            platform: the platform, where a name stands for images for several; see `get`.
            all_platforms: push the images for all platforms, with their index.
            compression: how to compress all layers: `"gzip"` or `"zstd"`, with a level as in `"zstd:19"`, or `"none"`.
            referrers: push the signatures, attestations and other artifacts that were kept with the image, too.
            progress: called with the states of blobs, by one thread at a time.

        Returns:
            What was pushed: the digest, and how the registry got each blob.

        Raises:
            ImageDoesNotExist: there is no such image.
            InvalidReference: the image is given by its ID, and `ref` is missing, or `ref` is not a valid name.
            LayerDoesNotExist, IntegrityError: a layer is missing or damaged.
            RegistryError: the registry does not take the image.
            LayerStoreError: referrers are wanted, but the manifest that they refer to cannot be given back; or the
                image does not have the digest in `ref`.
            ValueError, TypeError: `platform` or `compression` is none.
        """
        from layerstore_core.images.keep.compression import Compression
        from layerstore_core.images.keep.outgoing import choose
        from layerstore_core.images.remote.push.image import PushOptions, push_image
        from layerstore_core.registry import Registry

        how = None if compression is None else Compression.parse(compression)
        asked = None if platform is None else Platform.of(platform)
        image = self.get(name)
        where = ref if ref is not None else image.given_name
        if where is None:
            raise InvalidReference(f"{name!r} is an image's ID; name where it is to be pushed to")
        target = Reference.parse(where)
        context = self._store.context
        (out,) = choose(
            context.image_db,
            context.kept,
            [(image.image_id, image.given_name)],
            platform=asked,
            all_platforms=all_platforms,
        )
        images = [self.get(str(image_id)) for image_id in out.images]
        with Registry(target.domain, settings=context.config.registries) as registry:
            return push_image(self._store, (out, images), target, registry, PushOptions(how, referrers, progress))
