"""`layerstore diff`: compare the trees of images, layers and writable layers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import CHAIN, TREE, PathType, json_option, resolve_image_or_chain
from layerstore_core.cli.remote.option import PREFIX, Remote, open_remote, remote_options
from layerstore_core.cli.session import Session
from layerstore_core.errors import ImageDoesNotExist, LayerDoesNotExist

if TYPE_CHECKING:
    from contextlib import ExitStack

    from layerstore_core.images.compare import DiffStat, Tree
    from layerstore_core.store.store import LayerStore
    from layerstore_core.view.compare import TreeChange
    from layerstore_core.view.nodes import Node

#: What may be ignored, as `layerstore_core.view.compare.ASPECTS`, which would take time to load.
_ASPECTS: Final = ("mode", "owner", "mtime", "target", "device", "xattrs", "links", "size", "content")
_DEPTHS: Final = ("names", "metadata", "content")


@click.command()
@click.argument("first", metavar="A", type=TREE)
@click.argument("second", metavar="B", type=TREE)
@click.option(
    "--by",
    type=click.Choice(_DEPTHS),
    help="Compare the names only, or also metadata, or also contents. [default: content]",
)
@click.option("--ignore", type=click.Choice(_ASPECTS), multiple=True, help="Do not compare this; may be repeated.")
@click.option("--stat", is_flag=True, help="Print the numbers only.")
@click.option("--exit-code", is_flag=True, help="End with exit code 1 if anything differs.")
@click.option(
    "-o",
    "--output",
    "file",
    metavar="TAR",
    type=PathType(dir_okay=False, readable=False, allow_dash=True),
    help="Write the layer that makes B of A, instead of a list; '-' is standard output.",
)
@remote_options(text="A and B are images in registries, and are not pulled.", prefixed=True)
@json_option
@click.pass_obj
def diff(
    session: Session,
    first: str,
    second: str,
    *,
    by: str | None,
    ignore: tuple[str, ...],
    stat: bool,
    exit_code: bool,
    file: str | None,
    remote: Remote | None,
) -> None:
    """Compare the trees of two images, layers or writable layers.

    A and B are images, layers, or writable layers: NAME, or rw:NAME if an image has that name, too. Each line is
    A (added), C (changed) or D (deleted), a path, and what differs. Of a directory that was deleted, what was in it
    is not listed.

    Nothing is mounted but writable layers. Contents of layers that A and B have in common are not read.

    remote:REF is an image in a registry, which is not pulled; with --remote, both are, and no store is needed. Layers
    that both have are not fetched if one of them is here, and fetched once otherwise.

    \b
    Examples:
      layerstore diff debian:12 app:1
      layerstore diff debian:12 app:1 --ignore mtime --stat
      layerstore diff debian:12 app:1 -o app-layer.tar
      layerstore diff app:1 remote:registry.example.com/app:1.0
    """
    if file is not None and (by or ignore or stat or exit_code):
        raise click.UsageError(
            "--output writes all differences; it cannot be combined with --by, --ignore, --stat and --exit-code"
        )
    if file == "-":
        output.check_binary(session.json)
    from contextlib import ExitStack

    with ExitStack() as stack:
        needs_store = remote is None or not (remote.all or (first.startswith(PREFIX) and second.startswith(PREFIX)))
        store = stack.enter_context(session.open(reading=True, content=True)) if needs_store else None
        before, after = (_tree(session, store, word, remote, stack) for word in (first, second))
        from layerstore_core.images.compare import compare, write_difference

        document: dict[str, Any] = {"a": first, "b": second}
        if file is not None:
            if file == "-":
                out = output.StandardOutput()
                write_difference(store, before, after, out)
                out.flush()
                return
            write_difference(store, before, after, file)
            session.answer({**document, "file": file}, lambda: ())
            return
        found = compare(store, before, after, by=by or "content", ignore=ignore)  # type: ignore[arg-type]
        numbers = found.stat
        if session.json:
            document["stat"] = {name: getattr(numbers, name) for name in numbers.__slots__}
            if not stat:
                document["changes"] = [_document(change) for change in found.changes]
            output.write_document(document)
        else:
            output.write_lines([_summary(numbers)] if stat else map(_line, found.changes))
    if exit_code and found:
        raise click.exceptions.Exit(1)


def _tree(session: Session, store: LayerStore | None, word: str, remote: Remote | None, stack: ExitStack) -> Tree:
    """Return the image that a word means, or a handle to the layer or the writable layer."""
    if remote is not None and (store is None or word.startswith(PREFIX)):
        if store is not None and word in store.context.image_db.names():
            raise click.UsageError(
                f"{word!r} is an image in {store.root}, and may be one in a registry; "
                f"write docker.io/library/{word} for the one that is here"
            )
        return stack.enter_context(open_remote(session, word.removeprefix(PREFIX), remote))
    assert store is not None
    names = store.rw_layers()
    if word.startswith("rw:") and word[3:] in names:
        return stack.enter_context(store.get_rw_layer(word[3:]))
    try:
        found = resolve_image_or_chain(store, CHAIN.convert(word, None, None))
    except (ImageDoesNotExist, LayerDoesNotExist, click.BadParameter):
        if word not in names:
            raise ImageDoesNotExist(
                f"there is no image, no layer and no writable layer {word!r} in {store.root}; 'layerstore images', "
                "'layerstore ls' and 'layerstore rw ls' list them"
            ) from None
        return stack.enter_context(store.get_rw_layer(word))
    if word in names:
        raise click.UsageError(
            f"{word!r} is an image or a layer, and a writable layer; write rw:{word} for that, or an ID for the other"
        )
    return found if not isinstance(found, str) else stack.enter_context(store.get(found))


def _line(change: TreeChange) -> str:
    path = output.printable("/" + os.fsdecode(change.path), path=True)
    details = [_detail(what, change.before, change.after) for what in change.what]
    return f"{change.kind.value} {path}" + (f"  ({', '.join(details)})" if details else "")


def _detail(what: str, before: Node | None, after: Node | None) -> str:
    """Return what differs in words: the old and the new value, where they are short."""
    assert before is not None
    assert after is not None
    values = _values(before).get(what), _values(after).get(what)
    return what if None in values else f"{what} {values[0]} -> {values[1]}"


def _values(node: Node) -> dict[str, str]:
    return {
        "type": node.type.value,
        "mode": f"{node.mode:04o}",
        "owner": f"{node.uid}:{node.gid}",
        "size": str(node.size),
        "device": f"{node.devmajor}:{node.devminor}",
    }


def _summary(numbers: DiffStat) -> str:
    return (
        f"{numbers.added} added, {numbers.changed} changed, {numbers.deleted} deleted; "
        f"+{output.human_size(numbers.added_bytes)} -{output.human_size(numbers.deleted_bytes)}"
    )


def _document(change: TreeChange) -> dict[str, Any]:
    from layerstore_core.cli.views import shown

    return {
        "kind": change.kind.value,
        "path": shown(change.path),
        "what": list(change.what),
        "before": _file(change.before),
        "after": _file(change.after),
    }


def _file(node: Node | None) -> dict[str, Any] | None:
    from layerstore_core.cli.views import metadata_document

    return None if node is None else metadata_document(node)
