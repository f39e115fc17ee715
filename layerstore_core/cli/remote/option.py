"""The option `--remote` of commands: an image in a registry, which is looked into without pulling it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from layerstore_core.cli.parameters import PLATFORM
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.cli.views import OpenView
    from layerstore_core.images.formats.platforms import Platform
    from layerstore_core.images.remote.image import RegistryImage

_Command = Callable[..., None]

#: The beginning of a word that means an image in a registry, where others mean an image in the store.
PREFIX: Final = "remote:"
_HELP: Final = "The image is in a registry, and is not pulled."


@dataclass(frozen=True, slots=True)
class Remote:
    """How an image in a registry is read.

    Attributes:
        platform: the platform; `None` for this host's.
        verify: whether all layers that are needed are fetched whole, and verified first.
        all: whether all images of the command are in registries, and not only those with the prefix.
    """

    platform: Platform | None
    verify: bool
    all: bool = True


def remote_options(*, verify: bool = True, text: str = _HELP, prefixed: bool = False) -> Callable[[_Command], _Command]:
    """Add the options of images in registries to a command. Its argument `remote` is `None` if there are none.

    Args:
        verify: whether `--verify` is one of them.
        text: the help of `--remote`.
        prefixed: whether arguments that begin with `PREFIX` are such images, too.
    """
    options = [
        click.option("--remote", is_flag=True, is_eager=True, help=text),
        click.option(
            "--platform",
            metavar="OS/ARCH[/VARIANT]",
            type=PLATFORM,
            help="With --remote: the platform of a multi-platform image. [default: this host's]",
        ),
        click.option("--verify", is_flag=True, help="With --remote: fetch layers whole, and verify them before use."),
    ]

    def add(command: _Command) -> _Command:
        @wraps(command)
        def with_remote(
            *args: Any, remote: bool, platform: Platform | None, verify: bool = False, **others: Any
        ) -> None:
            found = None
            if remote or (prefixed and any(str(word).startswith(PREFIX) for word in others.values())):
                found = Remote(platform, verify, all=remote)
            for name, given in (("--platform", platform), ("--verify", verify)):
                if given and found is None:
                    raise click.UsageError(f"{name} is for images in registries: it needs --remote")
            command(*args, remote=found, **others)

        made: _Command = with_remote
        for option in options[: 3 if verify else 2][::-1]:
            made = option(made)
        return made

    return add


def open_remote(session: Session, reference: str, remote: Remote) -> RegistryImage:
    """Return an image in a registry; use it as a context manager.

    Raises:
        ConfigError: a setting cannot be used.
        RegistryError, InvalidImage: there is no such image, or it is damaged.
    """
    config = session.config()
    from layerstore_core.images.remote.image import RegistryImage

    limits = [limit for limit in (config.max_layer_size, config.max_spool_size) if limit is not None]
    return RegistryImage(
        reference, remote.platform, verify=remote.verify, settings=config.registries, max_size=min(limits)
    )


@contextmanager
def opened_anywhere(
    session: Session, word: str, remote: Remote | None, *, content: bool | None, several: bool = False
) -> Iterator[OpenView]:
    """Open the view of an image in a registry, or of an image or layer in the store, for a `with` block.

    Args:
        session: the session.
        word: the image's name in the registry, or a value of `ChainType`.
        remote: how it is read from a registry; `None`: it is in the store.
        content: as for `Session.open`.
        several: whether several files will be looked up, as for `RegistryImage.view`.
    """
    if remote is None:
        with session.open(reading=True, content=content) as store:
            from layerstore_core.cli.views import opened_view

            with opened_view(store, word) as opened:
                yield opened
        return
    with open_remote(session, word, remote) as image, image.view(several=several) as view:
        from layerstore_core.base.digests import chain_ids
        from layerstore_core.cli.views import OpenView

        chains = chain_ids(image.diff_ids) if session.json else ()
        try:
            yield OpenView(view, chains, None, image.config.image_id if session.json else None)
        except OSError as error:
            error.add_note(f"in {word}; 'layerstore files --remote {word} -R' lists all files there")
            raise
