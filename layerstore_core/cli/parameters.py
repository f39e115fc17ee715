"""The types of arguments (chain IDs, mount names, images, `KEY=VALUE`, …), and the option `--json`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.cli.session import Session
from layerstore_core.errors import BadRecord, InvalidReference, LayerDoesNotExist

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from layerstore_core.base.digests import ImageID
    from layerstore_core.images.formats.platforms import Platform
    from layerstore_core.images.image import Image
    from layerstore_core.store.store import LayerStore

_F = TypeVar("_F", bound=Callable[..., Any])

PROGRAM: Final = "layerstore"
#: The environment variable by which a shell asks for completions.
COMPLETE_VARIABLE: Final = "_LAYERSTORE_COMPLETE"
#: The fewest hex digits that a shortened chain ID may have.
SHORTEST: Final = 4
_PREFIX: Final = rf"(?:sha256:)?([0-9a-f]{{{SHORTEST},64}})"
_SHOWN_CANDIDATES: Final = 10


class ChainType(click.ParamType[str]):
    """A layer: a chain ID or its first digits, or an image, which means its topmost layer.

    The value is the hex digits of an ID, or the name; `resolve` finds the layer.
    """

    name = "chain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word: str = value
        if match := re.fullmatch(_PREFIX, word):
            return match[1]
        if _may_be_a_name(word):
            return word
        return self.fail(
            f"{word!r} is not a chain ID, nor the name or ID of an image. Give sha256:<64 lower-case hex digits>, its "
            f"first digits ({SHORTEST} or more), or a name; 'layerstore ls' and 'layerstore images' list them.",
            param,
            ctx,
        )

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # Complete with `sha256:` only if the user typed it: a shell compares the beginnings of words.
        with_algorithm = incomplete.startswith("sha256:")
        words = _ask_store(ctx, lambda store: store.chain_ids())
        words = [word if with_algorithm else word.removeprefix("sha256:") for word in words]
        return _items([*words, *_ask_store(ctx, _image_names)], incomplete)


class ImageOrRemoteType(ChainType):
    """What `ChainType` is, or, for a command with the option `--remote`, the name of an image in a registry."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if ctx is None or not ctx.params.get("remote"):
            return super().convert(value, param, ctx)
        from layerstore_core.base.reference import Reference

        try:
            Reference.parse(value)
        except InvalidReference as error:
            self.fail(str(error), param, ctx)
        if value.startswith(("sha256:", "sha512:")):
            self.fail(f"{value!r} says no registry; give NAME@DIGEST.", param, ctx)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return [] if ctx.params.get("remote") else super().shell_complete(ctx, param, incomplete)


class MountNameType(click.ParamType[str]):
    """The name of a writable layer. It is also the name of a directory, so it has to be one component of a path."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name: str = value
        if name in ("", ".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
            self.fail(
                f"{name!r} cannot name a writable layer. Use 1 to 255 bytes, no '/', and not '.' or '..'.", param, ctx
            )
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = _ask_store(ctx, lambda store: store.context.db.list_mounts())
        return _items(names, incomplete)


class KeyValueType(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`; the value may be empty, and may contain more `=`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not of the form KEY=VALUE.", param, ctx)
        return key, text


class PathType(click.Path):
    """A file or a directory.

    An empty word is refused: it may come from a shell variable that is not set, and would be the current directory.
    """

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            standard = ", or '-'" if self.allow_dash else ""
            self.fail(f"the name is empty; name a file or a directory{standard}.", param, ctx)
        return super().convert(value, param, ctx)


class TargetType(ChainType):
    """An image, a layer or a directory; which of these, the store says."""

    name = "target"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return str(value)


class TreeType(click.ParamType[str]):
    """A tree: an image or a layer, as of `ChainType`, or the name of a writable layer, also as `rw:NAME`."""

    name = "tree"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word: str = value
        return word

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = CHAIN.shell_complete(ctx, param, incomplete)
        return [*names, *MOUNT_NAME.shell_complete(ctx, param, incomplete)]


class SourceType(click.ParamType[str]):
    """`SOURCE[:DEST]`: a file, directory or tar of the host, and a place in the image."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        source: str = value
        return source

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type="file")]


class ImageType(click.ParamType[str]):
    """An image: its name, or its ID or the first digits of that."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name: str = value
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _items(_ask_store(ctx, _image_names), incomplete)


class ImagePathType(click.ParamType[tuple[str, str]]):
    """A file of an image or a layer: `IMAGE:PATH`, where PATH begins with a slash; the value is the two words."""

    name = "image:path"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        # A name of an image may have a colon, but none before a slash.
        image, colon, path = value.partition(":/")
        if not (image and colon):
            self.fail(f"{value!r} is not of the form IMAGE:PATH, where PATH begins with a slash.", param, ctx)
        return CHAIN.convert(image, param, ctx), f"/{path}"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _items([f"{name}:/" for name in _ask_store(ctx, _image_names)], incomplete)


class PlatformType(click.ParamType[Any]):
    """A platform such as `linux/amd64`; the value is a `Platform`."""

    name = "platform"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from layerstore_core.images.formats.platforms import Platform

        if isinstance(value, Platform):
            return value
        try:
            return Platform.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class RegistryType(click.ParamType[str]):
    """A registry: `HOST[:PORT]`, which may stand in a URL, as Docker takes it."""

    name = "registry"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from layerstore_core.base.reference import is_registry
        from layerstore_core.registry.hosts import canonical_host

        bare = value.removeprefix("https://").removeprefix("http://")
        if bare != value:
            bare = re.sub(r"(?:/v[12])?/?$", "", bare)
        if not is_registry(bare):
            self.fail(
                f"{value!r} is not the address of a registry; give HOST or HOST:PORT, without a path.", param, ctx
            )
        return canonical_host(bare)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from layerstore_core.registry.credentials import hosts_with_credentials

        try:
            return _items(hosts_with_credentials(), incomplete)
        except Exception:
            return []  # a damaged file must not spoil the prompt


class RepositoryType(RegistryType):
    """A registry, or a repository in it: `HOST[:PORT][/REPOSITORY]`."""

    name = "repository"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        host, _, repository = value.partition("/")
        if "://" in value or not repository:
            return super().convert(value, param, ctx)
        from layerstore_core.base.reference import Reference

        registry = super().convert(host, param, ctx)
        try:
            # A dot or a colon is what distinguishes a host in a name.
            parsed = Reference.parse(f"registry.example.com/{repository}", default_tag=None)
        except InvalidReference:
            parsed = None
        if parsed is None or parsed.path != repository:
            self.fail(f"{value!r} is not a repository of a registry; give HOST/REPOSITORY.", param, ctx)
        return f"{registry}/{repository}"


CHAIN: Final = ChainType()
IMAGE_OR_REMOTE: Final = ImageOrRemoteType()
IMAGE: Final = ImageType()
REGISTRY: Final = RegistryType()
REPOSITORY: Final = RepositoryType()
SOURCE: Final = SourceType()
TREE: Final = TreeType()
TARGET: Final = TargetType()
IMAGE_PATH: Final = ImagePathType()
PLATFORM: Final = PlatformType()
MOUNT_NAME: Final = MountNameType()
KEY_VALUE: Final = KeyValueType()


def resolve(store: LayerStore, word: str, platform: Platform | None = None) -> ChainID:
    """Return the chain ID of the layer that a value of `ChainType` means.

    Args:
        store: the store to search.
        word: the first hex digits of a chain ID or of an image's ID, or an image's name. An image means its topmost
            layer.
        platform: which of the images for several platforms that have the name; `word` is an image then.

    Raises:
        LayerDoesNotExist, ImageDoesNotExist: there is none, or the image has no layers.
        click.UsageError: the word may mean several layers; the message lists them.
    """
    if platform is None:
        found = _find(store, word)
    else:
        image = resolve_image_or_chain(store, word, platform)
        found = image if isinstance(image, ChainID) else image.chain_id
    if found is None:
        raise LayerDoesNotExist(f"image {word!r} in {store.root} has no layers; give a layer, or an image with layers")
    return found


def resolve_parent(store: LayerStore, word: str | None) -> str:
    """Return the chain ID of a parent as `resolve` does; `""` if `word` is `None` or the image has no layers."""
    return "" if word is None else _find(store, word) or ""


def resolve_image_or_chain(store: LayerStore, word: str, platform: Platform | None = None) -> Image | ChainID:
    """Return the image that a value of `ChainType` means; if it means a layer and no image, the layer's chain ID.

    Args:
        store: the store to search.
        word: as for `resolve`.
        platform: as for `resolve`.

    Raises:
        LayerDoesNotExist, ImageDoesNotExist: there is none.
        BadRecord: the image is damaged.
        click.UsageError: the word may mean several objects; the message lists them.
    """
    match = re.fullmatch(_PREFIX, word)
    if match is None or platform is not None:
        from layerstore_core.images import Images  # lazy: a layer is found without what images need

        return Images(store).get(word, platform=platform)
    meanings = _meanings(store, match[1])
    images = {image for image, _ in meanings.values() if image is not None}
    if len(images) > 1:
        raise _ambiguous(match[1], meanings)
    if not images:
        return next(chain for _, chain in meanings.values() if chain)
    from layerstore_core.images import Images

    return Images(store).get(images.pop())


def _find(store: LayerStore, word: str) -> ChainID | None:
    """Do the work of `resolve`; return `None` for an image without layers."""
    match = re.fullmatch(_PREFIX, word)
    if match is None:
        from layerstore_core.images import Images

        return Images(store).get(word).chain_id
    return next(chain for _, chain in _meanings(store, match[1]).values())


def _meanings(store: LayerStore, digits: str) -> dict[str, tuple[ImageID | None, ChainID | None]]:
    """Return what the first digits of an ID mean: by words for it, the image, if it is one, and the topmost layer.

    The topmost layer is the same for all of them.

    Raises:
        LayerDoesNotExist: they mean nothing.
        click.UsageError: they may mean several layers.
    """
    if len(digits) == 64 and store.has_layer(ChainID.from_hex(digits)):
        chain = ChainID.from_hex(digits)  # a whole ID: no need to list the others
        return {chain: (None, chain)}
    found: dict[str, tuple[ImageID | None, ChainID | None]] = {
        chain: (None, chain) for chain in store.chain_ids() if chain.hex.startswith(digits)
    }
    images = {f"image {image}": image for image in store.context.image_db.image_ids() if image.hex.startswith(digits)}
    with suppress(BadRecord):  # the digits are likely an ID: `Images` reports a damaged list of names
        if (named := store.context.image_db.names().get(f"{digits}:latest")) is not None:
            images[f"image {digits}:latest"] = named
    found.update({label: (image, store.context.image_db.top_layer(image)) for label, image in images.items()})
    if not found:
        raise LayerDoesNotExist(
            f"no layer sha256:{digits}{'…' if len(digits) < 64 else ''} in {store.root}, and no image; "
            "'layerstore ls' and 'layerstore images' list them"
        )
    if len({chain for _, chain in found.values()}) > 1:
        raise _ambiguous(digits, found)
    return found


def _ambiguous(digits: str, found: Collection[str]) -> click.UsageError:
    more = len(found) - _SHOWN_CANDIDATES
    lines = [*list(found)[:_SHOWN_CANDIDATES], *([f"and {more} more"] if more > 0 else [])]
    return click.UsageError(
        f"{digits!r} is ambiguous: give more digits, or a name with its tag. It may mean:\n  " + "\n  ".join(lines)
    )


def _may_be_a_name(word: str) -> bool:
    from layerstore_core.base.reference import Reference

    try:
        Reference.parse(word)
    except InvalidReference:
        return False
    return not word.startswith(("sha256:", "sha512:"))


def _image_names(store: LayerStore) -> list[str]:
    return sorted(store.context.image_db.names())


def resolve_image(store: LayerStore, name: str) -> str:
    """Return the chain ID of an image's topmost layer; `""` if it has no layers.

    Raises:
        ImageDoesNotExist: there is no such image.
    """
    from layerstore_core.images import Images

    return Images(store).get(name).chain_id or ""


def platform_option(command: _F) -> _F:
    """Add the option `--platform` to a command that takes an image, whose name may stand for several."""
    return click.option(
        "--platform", metavar="OS/ARCH", type=PLATFORM, help="Platform, where the name of an image stands for several."
    )(command)


def json_option(command: _F) -> _F:
    """Add the option `--json` to a command, so that it is accepted after the command too."""

    def switch(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        session = ctx.find_object(Session)
        if value and session is not None:
            session.json = True

    return click.option("--json", is_flag=True, expose_value=False, callback=switch, help="Answer in JSON.")(command)


def session_from(params: dict[str, Any]) -> Session:
    """Return a session with the global options."""
    return Session(
        root=params.get("root"),
        driver=params.get("driver"),
        driver_options=dict(params.get("driver_opt") or ()),
        config_file=params.get("config"),
        json=bool(params.get("json")),
        verbosity=params.get("verbose") or 0,
        log_json=bool(params.get("log_json")),
    )


def _items(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _ask_store(ctx: click.Context, question: Callable[[LayerStore], list[Any]]) -> list[str]:
    """Ask the store while a shell completes a word; on any error return nothing, so that the prompt stays clean."""
    try:
        session = session_from(ctx.find_root().params)
        session.silent = True
        with session.open(reading=True) as store:
            return question(store)
    except Exception:
        return []
