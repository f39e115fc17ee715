"""Command lines that are plain: read and run without click.

A line is plain if all of its words are known here, and have the forms that need no further thought. Whatever is not
plain is left to click, which reads it in the same way, and has the help texts and the errors of usage.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from layerstore_core.cli import outcome
from layerstore_core.cli.session import Session

if TYPE_CHECKING:
    from layerstore_core.base.digests import ChainID
    from layerstore_core.store.store import LayerStore

#: The environment variable by which a shell asks for completions; `cli.parameters` has it, too.
_COMPLETE_VARIABLE: Final = "_LAYERSTORE_COMPLETE"
_DIGITS: Final = frozenset("0123456789abcdef")

#: The words after a command: the values of options by name (`True` for one without a value), and the other words.
_Words = tuple[Mapping[str, str], list[str]]


class NotPlainError(Exception):
    """Click is to run the line. Nothing has been done yet."""


def run(args: Sequence[str]) -> int | None:
    """Run a command line if it is plain.

    Returns:
        The exit code; `None` if the line is not plain.
    """
    line = parse(args)
    if line is None or _COMPLETE_VARIABLE in os.environ:
        return None
    session, action = line
    try:
        action(session)
        code = 0
    except NotPlainError:
        return None
    except BaseException as error:
        code = outcome.report(error, session, session.json)
    return outcome.flushed(code, session.json)


def parse(args: Sequence[str]) -> tuple[Session, Callable[[Session], None]] | None:
    """Return the session and the action of a plain command line; `None` for any other."""
    for end, word in enumerate(args):
        if word in _COMMANDS and (end == 0 or args[end - 1] not in ("--root", "--driver")):
            break
    else:
        return None
    kinds, action = _COMMANDS[word]
    rest = list(args[end + 1 :])
    if isinstance(action, dict):
        if not rest or rest[0] not in action:
            return None
        kinds, action = action[rest.pop(0)]
    general, specific = _split(args[:end], _GENERAL), _split(rest, kinds)
    if general is None or specific is None or general[1] or not callable(action):
        return None
    root = general[0].get("--root")
    if root is not None and not _may_be(root, stat.S_ISDIR):
        return None
    session = Session(
        root=None if root is None else Path(root),
        driver=general[0].get("--driver"),
        json="--json" in general[0] or "--json" in specific[0],
    )
    made = action(*specific)
    return None if made is None else (session, made)


def _split(words: Sequence[str], kinds: Mapping[str, bool]) -> _Words | None:
    """Return the options and the other words; `None` if a word is not plain.

    Args:
        words: the words.
        kinds: the options that there are, and whether each has a value.
    """
    options: dict[str, str] = {}
    others = []
    waiting = list(reversed(words))
    while waiting:
        word = waiting.pop()
        if not word.startswith("-") or word == "-":
            others.append(word)
            continue
        name, equals, value = ("--quiet" if word == "-q" else word).partition("=")
        if name not in kinds or bool(equals) > kinds[name] or (name in options and name != "--json"):
            return None
        if kinds[name] and not equals:
            if not waiting or waiting[-1].startswith("-"):
                return None
            value = waiting.pop()
        options[name] = value
    return options, others


def _may_be(path: str, kind: Callable[[int], bool]) -> bool:
    """Return whether a path is of a kind, or leads nowhere: then the command has the error."""
    if path == "" or "\0" in path:
        return False
    try:
        return kind(os.stat(path).st_mode)
    except OSError:
        return True


def _is_whole_id(word: str | None) -> bool:
    """Return whether a word, if there is one, has the form of a whole ID: then it means no image's name."""
    digits = "" if word is None else word.removeprefix("sha256:")
    return word is None or (len(digits) == 64 and _DIGITS.issuperset(digits))


def _parent(store: LayerStore, word: str | None) -> ChainID | None:
    """Return the layer that a whole ID means.

    Raises:
        NotPlainError: there is no such layer. It may be the ID of an image.
    """
    if word is None:
        return None
    from layerstore_core.base.digests import ChainID

    chain = ChainID.from_hex(word.removeprefix("sha256:"))
    if not store.has_layer(chain):
        raise NotPlainError
    return chain


def _list_layers(options: Mapping[str, str], words: list[str]) -> Callable[[Session], None] | None:
    if words or ("--json" in options and len(options) > 1):
        return None

    def act(session: Session) -> None:
        from layerstore_core.cli.listing import Listing
        from layerstore_core.cli.plain.layers import list_layers

        if session.json and "--quiet" in options:
            raise NotPlainError
        list_layers(session, Listing("--quiet" in options, (), None, "--no-trunc" in options))

    return act


def _register(options: Mapping[str, str], words: list[str]) -> Callable[[Session], None] | None:
    parent = options.get("--parent")
    if len(words) != 1 or not _is_whole_id(parent):
        return None
    [tar] = words
    if tar != "-" and not _may_be(tar, lambda mode: not stat.S_ISDIR(mode)):
        return None
    if tar == "-" and (sys.stdin is None or sys.stdin.isatty()):
        return None

    def act(session: Session) -> None:
        from layerstore_core.cli.plain.layers import register_tar

        register_tar(
            session,
            tar,
            lambda store: _parent(store, parent) or "",
            allow_empty="--allow-empty" in options,
        )

    return act


def _writable(name: str) -> Callable[[Mapping[str, str], list[str]], Callable[[Session], None] | None]:
    """Return what reads the line of a command for a writable layer."""

    def read(options: Mapping[str, str], words: list[str]) -> Callable[[Session], None] | None:
        if len(words) != 1 or words[0] in ("", ".", "..") or "/" in words[0] or len(os.fsencode(words[0])) > 255:
            return None
        parent = options.get("--parent")
        if not _is_whole_id(parent):
            return None
        [layer] = words

        def make(store: LayerStore) -> Any:
            return store.create_rw_layer(layer, _parent(store, parent))

        def act(session: Session) -> None:
            from layerstore_core.cli.plain import writable

            if name == "create":
                writable.create(session, layer, make)
            elif name == "mount":
                writable.mount(session, layer)
            elif name == "umount":
                writable.umount(session, layer)
            else:
                writable.remove(session, layer)

        return act

    return read


_JSON: Final = {"--json": False}
_GENERAL: Final = {"--root": True, "--driver": True, **_JSON}
#: The commands, by name: their options, and whether each has a value; what reads the words, or a family of commands.
_COMMANDS: Final[dict[str, tuple[Mapping[str, bool], Any]]] = {
    "ls": ({"--quiet": False, "--no-trunc": False, **_JSON}, _list_layers),
    "register": ({"--parent": True, "--allow-empty": False, **_JSON}, _register),
    "rw": (
        {},
        {
            "create": ({"--parent": True, **_JSON}, _writable("create")),
            "mount": (_JSON, _writable("mount")),
            "umount": (_JSON, _writable("umount")),
            "rm": (_JSON, _writable("rm")),
        },
    ),
}
