"""The pieces of work, and the contenders of each."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.contenders import Contender, inside, layerstore, making, python
from benchmarks.reading import comparing, listing, reading
from benchmarks.registries import pulling, pushing, updating
from benchmarks.workshop import Workshop
from layerstore_core import change_clock, take_stamps

_EXTRACTALL: Final = "import sys, tarfile; tarfile.open(sys.argv[1]).extractall('x', filter='tar')"
_COPY: Final = "import os; from layerstore_core import copy_tree; os.mkdir('copy'); copy_tree('tree', 'copy')"
_COMPARE: Final = "import sys; from layerstore_core import compare_trees; compare_trees(*sys.argv[1:])"
_COMPARE_SINCE: Final = (
    "import sys; from layerstore_core import Stamps, compare_trees; "
    "compare_trees(*sys.argv[1:3], stamps=Stamps(open(sys.argv[3], 'rb').read()))"
)
_INFLATE: Final = """
import sys
from isal import igzip_lib
inflate = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
with open(sys.argv[1], "rb", buffering=0) as file:
    while not inflate.eof:
        inflate.decompress(file.read(1 << 20) if inflate.needs_input else b"", 1 << 20)
"""
_ALL_OF_IT: Final = "hash, tar-split, extraction, commit; no flush"


@dataclass(frozen=True)
class Work:
    """A piece of work.

    Attributes:
        title: the title in tables and charts. `{options.entries:,}` and the like stand for sizes.
        contenders: returns the contenders.
        reference: the name of the contender to which the table's ratios relate.
    """

    title: str
    contenders: Callable[[Workshop], list[Contender]]
    reference: str


def _ours(tar: Path) -> list[Contender]:
    return [
        Contender("layerstore, vfs", _ALL_OF_IT, layerstore("register", str(tar))),
        Contender(
            "layerstore, overlay2", _ALL_OF_IT, layerstore("register", str(tar), driver="overlay2"), needs_root=True
        ),
    ]


def _plain_peers(tar: Path) -> list[Contender]:
    name = str(tar)
    return [
        Contender("GNU tar -x", "extraction", ["tar", "-xf", name, "-C", "x"], "tar", making("x")),
        Contender("bsdtar -x", "extraction", ["bsdtar", "-xf", name, "-C", "x"], "bsdtar", making("x")),
        Contender("sha256sum", "hash", ["sha256sum", name], "sha256sum"),
        Contender("Python tarfile", "extraction", python(_EXTRACTALL, name)),
    ]


def _engines(shop: Workshop, layer: Path, name: str) -> list[Contender]:
    """Return engines that store layers like layerstore, or nearly so. Each deletes the layer before it runs."""
    storage = ["containers-storage", "import-layer", "--graph", "cs", "--run", "run", "--storage-driver", "overlay"]
    layout = f"{shop.layout_of(layer)}:bench"
    does = "hash, tar-split, extraction"
    found = [
        Contender("containers-storage", does, [*storage, "--file", str(layer)], storage[0], needs_root=True),
        Contender("umoci raw unpack", "hash, extraction", ["umoci", "raw", "unpack", "--image", layout, "x"], "umoci"),
    ]
    archive = shop.archive_of([(layer, shop.diff_id)], name)
    if shop.docker:
        found.append(_docker_load(shop.docker, archive, f"bench-{name}"))
    else:
        found.append(Contender("docker load", does, ["docker"], "dockerd-that-answers"))
    if shop.ctr:
        ctr = shop.ctr
        ingest = ["sh", "-c", f'"$@" ingest bench < {layer}', "sh", *ctr, "content"]
        forget = [*ctr, "content", "rm", f"sha256:{shop.diff_id}"]
        load = [*ctr, "images", "import", "--snapshotter", "overlayfs", str(archive)]
        remove = [*ctr, "images", "rm", "--sync", f"docker.io/library/bench-{name}:latest"]
        if layer == shop.small:
            found.append(
                Contender("ctr content ingest", "hash, copy of the tar, flush", ingest, "ctr", _quietly(forget))
            )
        found.append(
            Contender("ctr images import", "hash, copy of the tar, extraction, flush", load, "ctr", _quietly(remove))
        )
    else:
        found.append(Contender("ctr images import", does, ["ctr"], "containerd-that-answers"))
    return found


def _docker_load(docker: list[str], archive: Path, name: str) -> Contender:
    load = [*docker, "load", "-qi", str(archive)]
    return Contender(
        "docker load", "copy, hash, tar-split, extraction", load, "docker", _quietly([*docker, "rmi", "-f", name])
    )


def _quietly(command: list[str]) -> Callable[[Path], object]:
    return lambda _: subprocess.run(command, check=False, capture_output=True)


def _register(shop: Workshop) -> list[Contender]:
    return [*_ours(shop.small), *_plain_peers(shop.small), *_engines(shop, shop.small, "small")]


def _register_large(shop: Workshop) -> list[Contender]:
    return [*_ours(shop.large[0]), *_plain_peers(shop.large[0])]


def _inflaters(packed: Path) -> list[Contender]:
    name = str(packed)
    programs = [("igzip", "-dc"), ("libdeflate-gunzip", "-c"), ("pigz", "-dc"), ("gzip", "-dc")]
    return [
        Contender("isal in Python", "inflate", python(_INFLATE, name)),
        *(Contender(f"{one} {flag}", "inflate", [one, flag, name], one) for one, flag in programs),
    ]


def _register_gzip(shop: Workshop) -> list[Contender]:
    packed = shop.small_packed
    tar = Contender("GNU tar -xz", "inflate, extraction", ["tar", "-xzf", str(packed), "-C", "x"], "tar", making("x"))
    return [*_ours(packed), *_inflaters(packed), tar, *_engines(shop, packed, "small-gzip")]


def _register_gzip_large(shop: Workshop) -> list[Contender]:
    packed = shop.large[1]
    return [*_ours(packed), *_inflaters(packed)]


def _export(shop: Workshop) -> list[Contender]:
    store, chain = shop.stored
    tree = str(shop.trees[0])
    ours = layerstore("export", chain, "-o", "o", root=str(store))
    found = [
        Contender("layerstore export", "reassembly, checksums, hash, writing", ours),
        Contender("GNU tar -c", "packing, writing", ["tar", "-cf", "o", "-C", tree, "."], "tar"),
        Contender("bsdtar -c", "packing, writing", ["bsdtar", "-cf", "o", "-C", tree, "."], "bsdtar"),
    ]
    if shop.docker:
        subprocess.run(
            [*shop.docker, "load", "-qi", shop.archive_of([(shop.small, shop.diff_id)], "small")], check=True
        )
        save = [*shop.docker, "save", "-o", "o", "bench-small"]
        found.append(Contender("docker save", "reassembly, checksums, hash, writing", save, "docker"))
    else:
        found.append(Contender("docker save", "", ["docker"], "dockerd-that-answers"))
    return found


def _copy(shop: Workshop) -> list[Contender]:
    tree = shop.trees[0]
    copy = ["cp", "-a", "--reflink=auto", f"{tree}/.", "copy"]
    return [
        Contender(
            "layerstore copy_tree", "exact copy", python(_COPY), before=lambda where: (where / "tree").symlink_to(tree)
        ),
        Contender("cp -a", "exact copy", copy, "cp", making("copy")),
    ]


def _changes(shop: Workshop) -> list[Contender]:
    tree, other = shop.trees
    stamps = shop.work / "stamps"
    stamps.write_bytes(take_stamps(tree, change_clock(shop.work)))
    rsync = ["rsync", "-an", "--delete", f"{tree}/", f"{other}/"]
    return [
        Contender(
            "layerstore compare_trees", "all metadata, attributes, content", python(_COMPARE, str(tree), str(other))
        ),
        Contender(
            "as vfs knows a copy", "what was touched since", python(_COMPARE_SINCE, str(tree), str(other), str(stamps))
        ),
        Contender("diff -rq", "types, content", ["diff", "-rq", "--no-dereference", str(tree), str(other)], "diff"),
        Contender("rsync -an --delete", "size, time, mode, owner", rsync, "rsync"),
    ]


def _many_layers(shop: Workshop) -> list[Contender]:
    many, few = shop.work / "many-layers", shop.work / "few-layers"
    chains = {}
    for root, count in ((many, shop.options.layers), (few, 10)):
        chains[root] = subprocess.run(
            inside("many-layers", str(root), str(count)), check=True, capture_output=True, text=True
        ).stdout.strip()
    does = "a whole process"
    return [
        Contender(
            "layerstore, opening", "the library's open and close", inside("open", str(many)), prints_seconds=True
        ),
        Contender("layerstore ls", does, layerstore("ls", root=str(many))),
        *(
            Contender(name, does, layerstore("export", chains[root], "-o", "/dev/null", root=str(root)))
            for name, root in (("layerstore export, many layers", many), ("layerstore export, 10 layers", few))
        ),
    ]


def _image(shop: Workshop) -> list[Contender]:
    layers = [f"{path}={diff_id}" for path, diff_id in shop.image_layers]
    found = [
        Contender(
            f"layerstore, {driver}, {how}",
            _ALL_OF_IT,
            inside("image", driver, how, *layers),
            needs_root=driver == "overlay2",
            prints_seconds=True,
        )
        for driver in ("overlay2", "vfs")
        for how in ("together", "one by one")
    ]
    if shop.docker:
        found.append(_docker_load(shop.docker, shop.archive_of(shop.image_layers, "image"), "bench-image"))
    return found


#: The pieces of work that need a registry.
REGISTRIES: Final = ("pull", "pull-update", "push")
#: The pieces of work by name, in the order in which they are run.
WORKS: Final = {
    "register": Work("register a raw tar of {options.entries:,} entries", _register, "GNU tar -x"),
    "register-large": Work("register a raw tar of four files, {megabytes:,} MB", _register_large, "sha256sum"),
    "register-gzip": Work("register {options.entries:,} entries, gzip-compressed", _register_gzip, "isal in Python"),
    "register-gzip-large": Work(
        "register four files, {megabytes:,} MB, gzip-compressed", _register_gzip_large, "isal in Python"
    ),
    "export": Work("export a layer of {options.entries:,} entries", _export, "GNU tar -c"),
    "copy": Work("copy a tree of {options.entries:,} entries", _copy, "cp -a"),
    "changes": Work("compare two trees of {options.entries:,} entries", _changes, "rsync -an --delete"),
    "layers": Work("a store of {options.layers:,} layers", _many_layers, "layerstore export, 10 layers"),
    "files": Work("list an image of 8 layers, {options.entries:,} entries", listing, "layerstore files -R"),
    "cat": Work("read one file of an image of 8 layers, {options.entries:,} entries", reading, "layerstore cat"),
    "diff": Work(
        "compare an image of 8 layers, {options.entries:,} entries, with one of a layer more",
        comparing,
        "layerstore diff",
    ),
    "image": Work(
        "an image of 8 layers, {options.entries:,} entries in all", _image, "layerstore, overlay2, one by one"
    ),
    "pull": Work(
        "pull an image of three gzip layers: {options.pulled_entries:,} small files and four large ones",
        pulling,
        "curl; tar -xz",
    ),
    "pull-update": Work("pull an image of which all but a small layer is here", updating, "layerstore pull, vfs"),
    "push": Work("push a pulled image to another repository of the same registry", pushing, "layerstore push"),
}
