"""The kinds of words that a user types: chain IDs, mount names, images, `KEY=VALUE`; and the option `--json`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from layerstore_core.base.digests import ChainID
from layerstore_core.cli.session import Session
from layerstore_core.errors import BadRecord, InvalidReference, LayerDoesNotExist

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from layerstore_core.store.store import LayerStore

_F = TypeVar("_F", bound=Callable[..., Any])

PROGRAM: Final = "layerstore"
#: The variable by which a shell asks for completions.
COMPLETE_VARIABLE: Final = "_LAYERSTORE_COMPLETE"
#: The fewest hex digits that a shortened chain ID may have.
SHORTEST: Final = 4
_PREFIX = re.compile(rf"(?:sha256:)?([0-9a-f]{{{SHORTEST},64}})", re.ASCII)
_SHOWN_CANDIDATES: Final = 10


class ChainType(click.ParamType[str]):
    """A layer: its chain ID or the start of one, or an image, which stands for its topmost layer; `resolve` finds it.

    Gives the hex digits of an ID, or the name.
    """

    name = "chain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        word: str = value
        if match := _PREFIX.fullmatch(word):
            return match[1]
        if _may_be_a_name(word):
            return word
        return self.fail(
            f"{word!r} is not a chain ID, nor an image's name or ID. Give sha256:<64 lower-case hex digits>, the first "
            f"{SHORTEST} digits or more, or a name; 'layerstore ls' and 'layerstore images' list them.",
            param,
            ctx,
        )

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # Offered as typed, with or without the algorithm: shells complete by the beginning of the word.
        with_algorithm = incomplete.startswith("sha256:")
        words = _ask_store(ctx, lambda store: store.chain_ids())
        words = [word if with_algorithm else word.removeprefix("sha256:") for word in words]
        return _offered([*words, *_ask_store(ctx, _image_names)], incomplete)


class MountNameType(click.ParamType[str]):
    """The name of a writable layer: it names a directory, so it has to be one plain component of a path."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name: str = value
        if name in ("", ".", "..") or "/" in name or "\0" in name or len(os.fsencode(name)) > 255:
            self.fail(
                f"{name!r} cannot name a writable layer. Use 1 to 255 bytes without '/', not '.' or '..'.", param, ctx
            )
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = _ask_store(ctx, lambda store: store.context.db.list_mounts())
        return _offered(names, incomplete)


class KeyValueType(click.ParamType[tuple[str, str]]):
    """`KEY=VALUE`; the value may be empty and may hold more `=`."""

    name = "key=value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        if isinstance(value, tuple):
            return value
        key, equals, text = value.partition("=")
        if not (key and equals):
            self.fail(f"{value!r} is not of the form KEY=VALUE.", param, ctx)
        return key, text


class PathType(click.Path):
    """A file or a directory. An empty word, as of a variable that is not set, is neither: it would be the current directory."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value == "":
            standard = ", or '-'" if self.allow_dash else ""
            self.fail(f"it is an empty name; name a file or a directory{standard}.", param, ctx)
        return super().convert(value, param, ctx)


class ImageType(click.ParamType[str]):
    """An image's name, or its ID or the start of one."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name: str = value
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _offered(_ask_store(ctx, _image_names), incomplete)


class PlatformType(click.ParamType[Any]):
    """`linux/amd64`; gives a `Platform`."""

    name = "platform"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from layerstore_core.images.formats.platforms import Platform

        if isinstance(value, Platform):
            return value
        try:
            return Platform.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


CHAIN: Final = ChainType()
IMAGE: Final = ImageType()
PLATFORM: Final = PlatformType()
MOUNT_NAME: Final = MountNameType()
KEY_VALUE: Final = KeyValueType()


def resolve(store: LayerStore, word: str) -> ChainID:
    """The layer that a word means, as `ChainType` gives it.

    Args:
        store: where it is.
        word: the first hex digits of a chain ID or of an image's ID, or an image's name. An image stands for its
            topmost layer.

    Raises:
        LayerDoesNotExist, ImageDoesNotExist: there is none, or the image has no layers.
        click.UsageError: it may be several; the message lists them.
    """
    found = _find(store, word)
    if found is None:
        raise LayerDoesNotExist(f"image {word!r} in {store.root} has no layers")
    return found


def resolve_parent(store: LayerStore, word: str | None) -> str:
    """As `resolve`, for a parent: `""` where none was given, or the image has no layers."""
    return "" if word is None else _find(store, word) or ""


def _find(store: LayerStore, word: str) -> ChainID | None:
    """As `resolve`; `None` for an image without layers."""
    match = _PREFIX.fullmatch(word)
    if match is None:
        from layerstore_core.images import Images

        return Images(store).get(word).chain_id
    digits = match[1]
    if len(digits) == 64 and store.has_layer(ChainID.from_hex(digits)):
        return ChainID.from_hex(digits)  # without a look at all the others
    found: dict[str, ChainID | None] = {chain: chain for chain in store.chain_ids() if chain.hex.startswith(digits)}
    images = {f"image {image}": image for image in store.context.image_db.image_ids() if image.hex.startswith(digits)}
    with suppress(BadRecord):  # told where names are all that is asked for
        if (named := store.context.image_db.names().get(f"{digits}:latest")) is not None:
            images[f"image {digits}:latest"] = named
    found.update({label: store.context.image_db.top_layer(image) for label, image in images.items()})
    if not found:
        raise LayerDoesNotExist(
            f"no layer sha256:{digits}{'…' if len(digits) < 64 else ''} in {store.root}, and no image; "
            "'layerstore ls' and 'layerstore images' list what is there"
        )
    if len(set(found.values())) > 1:
        more = len(found) - _SHOWN_CANDIDATES
        lines = [*list(found)[:_SHOWN_CANDIDATES], *([f"and {more} more"] if more > 0 else [])]
        raise click.UsageError(
            f"{digits!r} may be any of these; type more digits, or a name with its tag:\n  " + "\n  ".join(lines)
        )
    return next(iter(found.values()))


def _may_be_a_name(word: str) -> bool:
    from layerstore_core.images.reference import Reference

    try:
        Reference.parse(word)
    except InvalidReference:
        return False
    return not word.startswith(("sha256:", "sha512:"))


def _image_names(store: LayerStore) -> list[str]:
    return sorted(store.context.image_db.names())


def resolve_image(store: LayerStore, name: str) -> str:
    """The chain ID of an image's topmost layer; `""` where it has no layers.

    Raises:
        ImageDoesNotExist: there is no such image.
    """
    from layerstore_core.images import Images

    return Images(store).get(name).chain_id or ""


def json_option(command: _F) -> _F:
    """Let `--json` stand after a command as well as before it."""

    def switch(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        session = ctx.find_object(Session)
        if value and session is not None:
            session.json = True

    return click.option("--json", is_flag=True, expose_value=False, callback=switch, help="Answer in JSON.")(command)


def session_from(params: dict[str, Any]) -> Session:
    """The session that the global options ask for."""
    return Session(
        root=params.get("root"),
        driver=params.get("driver"),
        driver_options=dict(params.get("driver_opt") or ()),
        config_file=params.get("config"),
        json=bool(params.get("json")),
        verbosity=params.get("verbose") or 0,
        log_json=bool(params.get("log_json")),
    )


def _offered(words: Iterable[str], incomplete: str) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem

    return [CompletionItem(word) for word in words if word.startswith(incomplete)]


def _ask_store(ctx: click.Context, question: Callable[[LayerStore], list[Any]]) -> list[str]:
    """What the store says while a shell completes a word: silence rather than an error in the prompt."""
    try:
        session = session_from(ctx.find_root().params)
        session.silent = True
        with session.open(reading=True) as store:
            return question(store)
    except Exception:
        return []
