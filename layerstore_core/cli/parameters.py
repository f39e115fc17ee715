"""The kinds of words that a user types: chain IDs, mount names, images, `KEY=VALUE`; and the option `--json`."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from layerstore_core.cli.session import Session
from layerstore_core.digests import ChainID
from layerstore_core.errors import LayerDoesNotExist

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from layerstore_core.store import LayerStore

_F = TypeVar("_F", bound=Callable[..., Any])

#: The fewest hex digits that a shortened chain ID may have.
SHORTEST: Final = 4
_PREFIX = re.compile(rf"(?:sha256:)?([0-9a-f]{{{SHORTEST},64}})", re.ASCII)
_SHOWN_CANDIDATES: Final = 10


class ChainType(click.ParamType[str]):
    """A chain ID or the start of one. Gives the hex digits; `resolve` finds the layer."""

    name = "chain"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        match = _PREFIX.fullmatch(value)
        if match is None:
            self.fail(
                f"{value!r} is not a chain ID. Give sha256:<64 lower-case hex digits>, or the first {SHORTEST} "
                "digits or more; 'layerstore ls' lists them.",
                param,
                ctx,
            )
        return match[1]

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        # Offered as typed, with or without the algorithm: shells complete by the beginning of the word.
        with_algorithm = incomplete.startswith("sha256:")
        words = _ask_store(ctx, lambda store: store.chain_ids())
        words = [word if with_algorithm else word.removeprefix("sha256:") for word in words]
        return _offered(words, incomplete)


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
        names = _ask_store(ctx, lambda store: store.db.list_mounts())
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


class ImageType(click.ParamType[str]):
    """An image's name, or its ID or the start of one."""

    name = "image"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name: str = value
        return name

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        names = _ask_store(ctx, lambda store: sorted(store.image_db.names()))
        return _offered(names, incomplete)


class PlatformType(click.ParamType[Any]):
    """`linux/amd64`; gives a `Platform`."""

    name = "platform"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from layerstore_core.images.platforms import Platform

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


def resolve(store: LayerStore, digits: str) -> ChainID:
    """The chain ID that begins with `digits` (as `ChainType` gives them).

    Raises:
        LayerDoesNotExist: no layer's does.
        click.UsageError: several do; the message lists them.
    """
    if len(digits) == 64 and store.has_layer(ChainID.from_hex(digits)):
        return ChainID.from_hex(digits)  # without a look at all the others
    found = [chain for chain in store.chain_ids() if chain.hex.startswith(digits)]
    if not found:
        raise LayerDoesNotExist(
            f"no layer sha256:{digits}{'…' if len(digits) < 64 else ''} in {store.root}; "
            "'layerstore ls' lists what is there"
        )
    if len(found) > 1:
        more = len(found) - _SHOWN_CANDIDATES
        lines = [*found[:_SHOWN_CANDIDATES], *([f"and {more} more"] if more > 0 else [])]
        raise click.UsageError(f"{digits!r} may be any of these layers; type more digits:\n  " + "\n  ".join(lines))
    return found[0]


def resolve_parent(store: LayerStore, digits: str | None) -> str:
    """As `resolve`, for a parent: `""` where none was given."""
    return "" if digits is None else resolve(store, digits)


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
