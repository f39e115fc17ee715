"""Images in registries, as methods of `Images`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from layerstore_core.base.reference import Reference
from layerstore_core.images.api.base import OfStore
from layerstore_core.images.arguments import new_name
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.images.results import PulledImages

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
        from layerstore_core.images.remote.pull import PullOptions, pull
        from layerstore_core.registry import Registry

        wanted = Reference.parse(reference)
        options = PullOptions(
            None if platform is None else Platform.of(platform), all_platforms, new_name(name), progress
        )
        with Registry(wanted.domain) as registry:
            pulled = pull(self._store, registry, wanted, options)
        return PulledImages(
            self._loaded_images(pulled.loaded, pulled.skipped),
            name=wanted.full_name,
            digest=pulled.digest,
            fetched=pulled.fetched,
            downloaded=pulled.downloaded,
            present=pulled.present,
        )
