"""Trees: the contenders that pack one, copy one, and compare two."""

from __future__ import annotations

from typing import Final

from benchmarks.contenders import Contender, absent, in_both_engines, layerstore, making, python, run
from benchmarks.workshop import Sample, Workshop, image_of
from layerstore_core import change_clock, take_stamps

_COPY: Final = "import os; from layerstore_core import copy_tree; os.mkdir('copy'); copy_tree('tree', 'copy')"
_COMPARE: Final = "import sys; from layerstore_core import compare_trees; compare_trees(*sys.argv[1:])"
_COMPARE_SINCE: Final = (
    "import sys; from layerstore_core import Stamps, compare_trees; "
    "compare_trees(*sys.argv[1:3], stamps=Stamps(open(sys.argv[3], 'rb').read()))"
)


def exporting(shop: Workshop) -> list[Contender]:
    """Return the contenders that write the tar of the layer of small files."""
    return _exporting(shop, shop.small)


def exporting_realistic(shop: Workshop) -> list[Contender]:
    """Return the contenders that write the tar of the realistic layer."""
    return _exporting(shop, shop.real)


def _exporting(shop: Workshop, sample: Sample) -> list[Contender]:
    store, chain = sample.stored
    tree, kind = str(sample.tree), ["--format=pax"] if sample is shop.real else []
    ours = layerstore("export", chain, "-o", "o", root=str(store))
    return [
        *in_both_engines([Contender("layerstore export", "reassembly, checksums, hash, writing", ours)]),
        Contender("GNU tar -c", "packing, writing", ["tar", "--xattrs", *kind, "-cf", "o", "-C", tree, "."], "tar"),
        Contender("bsdtar -c", "packing, writing", ["bsdtar", *kind, "-cf", "o", "-C", tree, "."], "bsdtar"),
        _docker_save(shop, sample),
    ]


def _docker_save(shop: Workshop, sample: Sample) -> Contender:
    name, does = "docker save", "reassembly, checksums, hash, writing"
    if not shop.docker:
        return absent(name, does, "dockerd")
    run([*shop.docker, "load", "-qi", str(sample.archive)])
    save = [*shop.docker, "save", "-o", "o", image_of(sample.tar)]
    return Contender(name, does, save, "docker", daemon=shop.docker_process)


def copying(shop: Workshop) -> list[Contender]:
    """Return the contenders that copy the tree of small files, as vfs does for a child."""
    tree = shop.small.tree
    ours = Contender(
        "layerstore copy_tree", "exact copy", python(_COPY), before=lambda where: (where / "tree").symlink_to(tree)
    )
    copy = ["cp", "-a", "--reflink=auto", f"{tree}/.", "copy"]
    return [*in_both_engines([ours]), Contender("cp -a", "exact copy", copy, "cp", making("copy"))]


def comparing(shop: Workshop) -> list[Contender]:
    """Return the contenders that compare two equal trees."""
    tree, other = shop.small.tree, shop.small.other_tree
    stamps = shop.work / "stamps"
    stamps.write_bytes(take_stamps(tree, change_clock(shop.work)))
    ours = Contender(
        "layerstore compare_trees", "all metadata, attributes, content", python(_COMPARE, str(tree), str(other))
    )
    known = python(_COMPARE_SINCE, str(tree), str(other), str(stamps))
    rsync = ["rsync", "-an", "--delete", f"{tree}/", f"{other}/"]
    return [
        *in_both_engines([ours]),
        Contender("layerstore, as vfs knows a copy", "what was touched since", known),
        Contender("diff -rq", "types, content", ["diff", "-rq", "--no-dereference", str(tree), str(other)], "diff"),
        Contender("rsync -an --delete", "size, time, mode, owner", rsync, "rsync"),
        Contender("rsync -an --checksum --delete", "content by checksum, mode, owner", [*rsync, "--checksum"], "rsync"),
    ]
