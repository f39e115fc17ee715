"""The whole store: the tree of its layers, the images and writable layers on them, and what could be removed."""

from __future__ import annotations

from dataclasses import dataclass

from layerstore_core.base.digests import ChainID
from layerstore_core.explore.lines import Line, Part, Role, bar
from layerstore_core.images.api.images import Images
from layerstore_core.maintenance.gc import Removed, collect_garbage
from layerstore_core.maintenance.prune import Pruned, prune
from layerstore_core.maintenance.usage import StoreUsage, disk_usage
from layerstore_core.store.store import LayerStore
from layerstore_core.text import human_size, printable

_BAR_WIDTH = 8


@dataclass(frozen=True, slots=True)
class StoreRow:
    """A layer in the tree of layers.

    Attributes:
        chain_id: the layer.
        depth: how many parents it has.
        size: its own bytes.
        total: its own bytes and those of all layers on it.
        images: the names, or the IDs, of the images that it is the topmost layer of, sorted.
        rw_layers: the names of the writable layers on it.
        in_use: whether anything refers to it.
    """

    chain_id: ChainID
    depth: int
    size: int
    total: int
    images: tuple[str, ...]
    rw_layers: tuple[str, ...]
    in_use: bool


@dataclass(frozen=True, slots=True)
class StoreState:
    """A store at one moment.

    Attributes:
        rows: its layers, parents before children, those first that have most bytes on them.
        usage: what it contains.
    """

    rows: tuple[StoreRow, ...]
    usage: StoreUsage


def read_store(store: LayerStore) -> StoreState:
    """Read the layers of a store and what is on them.

    Raises:
        BadRecord: the file of images' names is damaged.
    """
    usage = disk_usage(store)
    parents = {chain: None if one.parent is None else one.parent.chain_id for chain, one in store.layers().items()}
    images: dict[ChainID, list[str]] = {}
    for image in Images(store).all():
        if image.chain_id is not None:
            images.setdefault(image.chain_id, []).extend(image.names or (image.image_id.hex[:12],))
    writable: dict[ChainID, list[str]] = {}
    for rw in usage.rw_layers:
        if rw.parent is not None:
            writable.setdefault(rw.parent, []).append(rw.name)
    layers = {one.chain_id: one for one in usage.layers if one.chain_id in parents}
    totals = _totals({chain: one.diff_size for chain, one in layers.items()}, parents)
    children: dict[ChainID | None, list[ChainID]] = {}
    for chain in layers:
        parent = parents[chain]
        children.setdefault(parent if parent in layers else None, []).append(chain)
    for group in children.values():
        group.sort(key=lambda chain: (totals[chain], chain))  # the last one is taken first
    rows = []
    pending = [(chain, 0) for chain in children.get(None, ())]
    while pending:
        chain, depth = pending.pop()
        one = layers[chain]
        on_it = tuple(sorted(images.get(chain, ()))), tuple(writable.get(chain, ()))
        rows.append(StoreRow(chain, depth, one.diff_size, totals[chain], *on_it, one.in_use))
        pending += [(child, depth + 1) for child in children.get(chain, ())]
    return StoreState(tuple(rows), usage)


def _totals(sizes: dict[ChainID, int], parents: dict[ChainID, ChainID | None]) -> dict[ChainID, int]:
    """Return the bytes of each layer with those of all layers on it."""
    waiting = dict.fromkeys(sizes, 0)
    for chain in sizes:
        parent = parents[chain]
        if parent in waiting:
            waiting[parent] += 1
    totals = dict(sizes)
    ready = [chain for chain, count in waiting.items() if not count]
    while ready:
        chain = ready.pop()
        parent = parents[chain]
        if parent is not None and parent in waiting:
            totals[parent] += totals[chain]
            waiting[parent] -= 1
            if not waiting[parent]:
                ready.append(parent)
    return totals


def row_line(state: StoreState, number: int) -> Line:
    """Return a layer as one line: its bytes, those of all on it, its ID, and what is on it."""
    row = state.rows[number]
    most = max((one.total for one in state.rows), default=1)
    parts = [
        Part(f"{human_size(row.size):>9} {human_size(row.total):>9} "),
        Part(bar(row.total, max(most, 1), _BAR_WIDTH) + " ", Role.BAR),
        Part("  " * min(row.depth, 20) + row.chain_id.hex[:12], Role.TEXT if row.in_use else Role.DELETED),
    ]
    if row.images:
        parts.append(Part("  " + ", ".join(map(printable, row.images)), Role.DIRECTORY))
    if row.rw_layers:
        parts.append(Part("  writable: " + ", ".join(map(printable, row.rw_layers)), Role.CHANGED))
    if not row.in_use:
        parts.append(Part("  nothing refers to it", Role.DELETED))
    return tuple(parts)


def total_lines(state: StoreState) -> list[Line]:
    """Return what the store contains, by kind, and what could be freed."""
    lines: list[Line] = [(Part(f"{'':<18}{'COUNT':>7}{'IN USE':>8}{'SIZE':>11}{'RECLAIMABLE':>13}", Role.FAINT),)]
    for one in state.usage.totals:
        if one.count or one.kind in ("images", "layers", "writable layers"):
            sizes = f"{human_size(one.size):>11}{human_size(one.reclaimable):>13}"
            lines.append((Part(f"{one.kind:<18}{one.count:>7}{one.in_use:>8}{sizes}"),))
    for rw in state.usage.rw_layers:
        size = "unknown size" if rw.size is None else human_size(rw.size)
        used = "in use" if rw.in_use else "not in use"
        lines.append((Part(f"writable layer {printable(rw.name)}: {size}, {used}", Role.CHANGED),))
    return lines


def garbage_lines(store: LayerStore) -> list[Line]:
    """Return what `gc` would remove."""
    found = collect_garbage(store, dry_run=True)
    return [*map(_removed_line, found), _sum_line(len(found), sum(one.bytes for one in found))]


def prune_lines(store: LayerStore) -> list[Line]:
    """Return what `prune` would remove."""
    return _pruned_lines(prune(store, dry_run=True))


def remove_garbage(store: LayerStore) -> str:
    """Do what `gc` does, and say what was removed; errors as from `collect_garbage`."""
    found = collect_garbage(store)
    return f"gc removed {len(found)} objects: {human_size(sum(one.bytes for one in found))}"


def remove_unused(store: LayerStore) -> str:
    """Do what `prune` does, and say what was removed; errors as from `prune`."""
    found = prune(store)
    return f"prune removed {len(found.deleted)} images, {len(found.layers)} layers: {human_size(found.bytes)}"


def store_text(store: LayerStore) -> list[Line]:
    """Return all of it as lines: totals, layers, and what `gc` and `prune` would remove."""
    state = read_store(store)
    return [
        *total_lines(state),
        (),
        (Part("Layers: own size, size with all layers on it, share, ID, images"),),
        *(row_line(state, number) for number in range(len(state.rows))),
        (),
        (Part("gc would remove:"),),
        *garbage_lines(store),
        (),
        (Part("prune would remove:"),),
        *prune_lines(store),
    ]


def _removed_line(one: Removed) -> Line:
    return Part(f"{human_size(one.bytes):>9}  "), Part(f"{one.kind} {printable(one.name)}", Role.DELETED)


def _pruned_lines(found: Pruned) -> list[Line]:
    lines: list[Line] = [(Part(f"{'':>9}  name {printable(name)}", Role.DELETED),) for name in found.untagged]
    lines += [(Part(f"{'':>9}  image {image}", Role.DELETED),) for image in found.deleted]
    lines += [
        (Part(f"{human_size(one.diff_size):>9}  "), Part(f"layer {one.chain_id}", Role.DELETED)) for one in found.layers
    ]
    return [*lines, _sum_line(len(lines), found.bytes)]


def _sum_line(count: int, size: int) -> Line:
    return (Part(f"{human_size(size)} in {count} objects" if count else "nothing", Role.HEADING),)
