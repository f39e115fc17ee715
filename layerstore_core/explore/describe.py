"""Layers and files as lines: what the columns of the lists have, and a file in words."""

from __future__ import annotations

import stat
from datetime import UTC, datetime
from typing import Final

from layerstore_core.explore.file_tree import File
from layerstore_core.explore.image import ExploredImage, Scope
from layerstore_core.explore.lines import Line, Part, Role, bar, share_of, shown, shown_path
from layerstore_core.explore.marks import Mark
from layerstore_core.images.analysis import LayerStep
from layerstore_core.tar.entry import EntryType
from layerstore_core.text import human_size, printable
from layerstore_core.view.nodes import Node

_SIZE_WIDTH: Final = 9
_BAR_WIDTH: Final = 8
_SHELL: Final = ("/bin/sh -c #(nop) ", "/bin/sh -c ", "RUN /bin/sh -c ")


def layer_line(image: ExploredImage, number: int) -> Line:
    """Return a layer as one line: number, size, share of all layers, and the step that has made it."""
    layer = image.layers[number]
    return (
        Part(f"{number:>3} "),
        Part(f"{human_size(layer.analysis.written):>{_SIZE_WIDTH}} "),
        Part(bar(layer.analysis.written, max(image.analysis.written, 1), _BAR_WIDTH), Role.BAR),
        Part(f" {share_of(layer.analysis.written, image.analysis.written):>4} "),
        Part(step_of(layer), Role.TEXT),
    )


def step_of(layer: LayerStep) -> str:
    """Return the step that has made a layer in one line; without one, its chain ID."""
    text = layer.created_by
    for shell in _SHELL:
        if text.startswith(shell):
            text = text.removeprefix(shell)
            break
    texts = [printable(" ".join(one.split()), backslash=False) for one in (text, layer.comment) if one.strip()]
    return " # ".join(texts) or layer.chain_id.hex[:12]


def layer_lines(image: ExploredImage, number: int) -> list[Line]:
    """Return what there is to say about one layer."""
    if not image.layers:
        return [(Part("The image has no layers."),)]
    layer = image.layers[number]
    analyzed = layer.analysis
    marks = image.marks(number, Scope.LAYER)
    lines: list[Line] = [(Part(f"Layer {number} of {len(image.layers)}", Role.HEADING), Part(f"  {layer.chain_id}"))]
    lines += [
        (Part(f"{name:<11}", Role.FAINT), Part(printable(text, backslash=False)))
        for name, text in (("Created", layer.created), ("Created by", layer.created_by), ("Comment", layer.comment))
        if text
    ]
    counts = ", ".join(f"{marks.count(mark)} {mark.value}" for mark in Mark if mark is not Mark.SAME)
    wasted = f", {human_size(analyzed.wasted)} of it hidden by later layers" if analyzed.wasted else ""
    lines.append((Part(f"{'Paths':<11}", Role.FAINT), Part(counts)))
    lines.append((Part(f"{'Writes':<11}", Role.FAINT), Part(f"{human_size(analyzed.written)}{wasted}")))
    return lines


def file_line(file: File, *, is_open: bool, has_children: bool, attributes: bool) -> Line:
    """Return a file as a row of the tree: mark, metadata, size and name."""
    node = file.node
    role = _ROLES[file.mark]
    start = file.mark.letter if file.mark is not Mark.SAME or not file.within else "·"
    parts = [Part(f"{start} ", role if file.mark is not Mark.SAME else Role.FAINT)]
    if attributes:
        owner = f"{node.uid}:{node.gid}"
        parts.append(Part(f"{stat.filemode(node.st_mode)} {owner:>9} ", Role.FAINT))
    parts.append(Part(f"{_size_text(file):>{_SIZE_WIDTH}}  "))
    sign = ("▾ " if is_open else "▸ ") if has_children else "  "
    parts.append(Part("  " * file.depth + sign, Role.FAINT))
    name = shown(file.name) + ("/" if node.is_directory else "")
    plain_role = Role.DIRECTORY if node.is_directory else Role.LINK if node.type is EntryType.SYMLINK else Role.TEXT
    parts.append(Part(name, role if file.mark is not Mark.SAME else plain_role))
    if node.linkname:
        parts.append(Part(" → " + shown(node.linkname), Role.FAINT))
    if file.moved is not None:
        word = "moved to" if file.mark is Mark.DELETED else "moved from"
        parts.append(Part(f"  ({word} {shown_path(file.moved)})", Role.MOVED))
    return tuple(parts)


def file_words(file: File) -> str:
    """Return a file in words, for a reader that cannot see columns."""
    node = file.node
    words = [] if file.mark is Mark.SAME else [file.mark.value]
    words.append(node.type.value)
    text = " ".join(words) + " " + shown_path(file.path)
    if node.linkname:
        text += f" to {shown(node.linkname)}"
    if file.moved is not None:
        text += f", moved {'to' if file.mark is Mark.DELETED else 'from'} {shown_path(file.moved)}"
    if node.type in (EntryType.FILE, EntryType.DIR):
        text += f", {human_size(file.size)}"
    return f"{text}, mode {node.mode:04o}, owner {node.uid}:{node.gid}"


def file_lines(file: File, marked_what: tuple[str, ...], before: Node | None) -> list[Line]:
    """Return what there is to say about a file.

    Args:
        file: the file.
        marked_what: the aspects that differ, if they were compared.
        before: the file as it was, if it was changed.
    """
    node = file.node
    facts = [
        ("Path", shown_path(file.path)),
        ("Type", node.type.value),
        ("Mark", file.mark.value + (f": {', '.join(marked_what)}" if marked_what else "")),
        ("Size", f"{human_size(file.size)} ({file.size} bytes)"),
        ("Mode", f"{stat.filemode(node.st_mode)} ({node.mode:04o})"),
        ("Owner", f"{node.uid}:{node.gid}"),
        ("Modified", time_text(node.mtime_ns)),
        ("From layer", str(node.layer) if node.layer >= 0 else "none"),
    ]
    if node.linkname:
        facts.append(("Leads to", shown(node.linkname)))
    if file.moved is not None:
        facts.append(("Moved", ("to " if file.mark is Mark.DELETED else "from ") + shown_path(file.moved)))
    if file.mark is Mark.CHANGED and before is not None:
        owner = f"{before.uid}:{before.gid}"
        was = human_size(before.size), stat.filemode(before.st_mode), owner, time_text(before.mtime_ns)
        facts.append(("Before", ", ".join(was)))
    facts += [(f"{shown(name)}", shown(value)) for name, value in node.xattrs.items()]
    return [(Part(f"{name:<11}", Role.FAINT), Part(text)) for name, text in facts]


def time_text(time_ns: int) -> str:
    """Return a time in UTC, to the second; a time that no calendar has as a number of seconds."""
    try:
        return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (OverflowError, ValueError, OSError):
        return f"@{time_ns // 1_000_000_000}"


def _size_text(file: File) -> str:
    node = file.node
    if node.type in (EntryType.CHAR, EntryType.BLOCK):
        return f"{node.devmajor},{node.devminor}"
    return "" if node.type in (EntryType.SYMLINK, EntryType.FIFO) else human_size(file.size)


_ROLES: Final = {mark: Role.TEXT if mark is Mark.SAME else Role(mark.value) for mark in Mark}
