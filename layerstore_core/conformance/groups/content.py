"""Group "content": a layer shows every kind of file as its tar has it."""

from __future__ import annotations

import io
import os
import random
import tarfile
from dataclasses import replace
from typing import ClassVar, Final

import pytest

from layerstore_core.conformance.base import ConformanceTests
from layerstore_core.conformance.dialects import DIALECTS
from layerstore_core.conformance.rig import DriverRig, stream_of
from layerstore_core.conformance.tars import (
    MOMENT,
    Item,
    directory,
    file,
    hard_link,
    special,
    symlink,
    tar_of,
    whiteout,
)
from layerstore_core.conformance.trees import Tree, expected_tree, must_be, readable, shown
from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.entry import EntryType
from layerstore_core.verify.expected import read_entries

#: Version 2 of the kernel's structure, without a root ID: CAP_NET_BIND_SERVICE, permitted and effective.
_CAPABILITY: Final = bytes.fromhex("0100000200040000000000000000000000000000")
_MIB: Final = 1 << 20
_SHIFT: Final = 100_000
_MOST_NAMES: Final = 50


def _noise(size: int) -> bytes:
    return random.Random(size).randbytes(size)


_PLAIN: Final[dict[str, list[Item]]] = {
    "regular-files": [file(b"short", b"x"), file(b"empty"), file(b"block", b"y" * 512), file(b"page", b"z" * 4096)],
    "a-large-file": [file(b"large", _noise(3 * _MIB + 17))],
    "zeros": [file(b"zeros", bytes(_MIB)), file(b"holes", b"a" + bytes(_MIB) + b"b" + bytes(_MIB))],
    "modes": [file(b"%04o" % mode, b"m", mode=mode) for mode in (0o400, 0o444, 0o600, 0o640, 0o755, 0o777, 0o000)],
    "directory-modes": [directory(b"%04o" % mode, mode=mode) for mode in (0o700, 0o755, 0o1777, 0o2775, 0o555)],
    "set-id-and-sticky": [file(b"%04o" % mode, b"s", mode=mode) for mode in (0o4755, 0o2755, 0o6711, 0o1644, 0o7777)],
    "times": [
        file(b"nanoseconds", b"t", mtime_ns=MOMENT),
        file(b"epoch", b"t", mtime_ns=0),
        file(b"before-1970", b"t", mtime_ns=-1_000_000_000 * 86_400),
        file(b"far", b"t", mtime_ns=4_000_000_000_000_000_001),
    ],
    "directory-times": [
        directory(b"d", mtime_ns=MOMENT),
        directory(b"d/e", mtime_ns=MOMENT + 1),
        file(b"d/e/f", b"written after its directory"),
        file(b"d/g", b"too"),
    ],
    "symbolic-links": [
        file(b"target", b"t"),
        symlink(b"relative", b"target"),
        symlink(b"absolute", b"/etc/passwd"),
        symlink(b"dangling", b"no/where"),
        symlink(b"up", b"../../../.."),
        symlink(b"itself", b"itself"),
        symlink(b"long", b"t" * 1000),
        symlink(b"timed", b"target", mtime_ns=MOMENT - 1),
    ],
    "hard-links": [
        directory(b"d"),
        file(b"first", b"one file"),
        hard_link(b"second", b"first"),
        hard_link(b"d/third", b"first"),
        file(b"alone", b"one file"),
    ],
    "fifo": [special(b"fifo", EntryType.FIFO, mode=0o622)],
    "attributes": [
        file(b"f", b"x", xattrs={b"user.text": b"value", b"user.binary": bytes(range(256))}),
        directory(b"d", xattrs={b"user.of-directory": b"1"}),
        file(b"read-only", b"x", mode=0o444, xattrs={b"user.k": b"v"}),
    ],
    "attributes-without-value-and-with-odd-names": [
        file(b"f", b"x", xattrs={b"user.empty": b"", b"user.=": b"1", b"user.%3D": b"2", b"user.%25=%": b"3"}),
        directory(b"d", xattrs={b"user.empty": b"", b"user.a=b": b""}),
    ],
    "long-names": [
        file(b"n" * 255, b"as long as a name may be"),
        directory(b"p" * 200),
        directory(b"p" * 200 + b"/" + b"q" * 200),
        file(b"p" * 200 + b"/" + b"q" * 200 + b"/" + b"r" * 200, b"deep"),
    ],
    "names-that-are-no-text": [
        file(b"caf\xe9", b"latin-1"),
        file("café".encode(), b"utf-8"),
        file(b"\xff\xfe\xfd", b"no encoding at all"),
        file(b"new\nline", b"n"),
        file(b"tab\tand blank ", b"b"),
        file(b"back\\slash", b"s"),
        file(b"-rf", b"like an option"),
        file(b"...", b"dots"),
        file(b"wh.not-a-whiteout", b"w"),
        file("\u202e".encode(), b"right to left"),
    ],
    "names-of-scratch-files": [
        *(file(name, b"same") for name in (b".tmp-x", b".tmp", b"layer.tmp", b"f.new", b"f~", b".f.swp", b".#f")),
        *(file(name, b"same") for name in (b".wh-like", b".wh", b"lost+found", b".nfs0001", b".fuse_hidden0001")),
        *(directory(name) for name in (b"tmp", b"work", b"upper", b"diff", b"merged", b"tree")),
        *(file(name, b"of no driver") for name in (b"lower", b"link", b"parent", b"committed", b"layer.tar")),
        file(b"work/" + b"n" * 251 + b".tmp", b"same"),
        file(b"work/.tmp-" + b"n" * 250, b"same"),
        file(b"n" * 255, b"same"),
        file(b"work/.tmp-x", b"same"),
    ],
    "many-files": [directory(b"many"), *(file(b"many/%05d" % number, b"%d" % number) for number in range(700))],
    "deep-directories": [
        *(directory(b"/".join([b"d"] * depth)) for depth in range(1, 80)),
        file(b"/".join([b"d"] * 79) + b"/bottom", b"deep"),
    ],
    "the-root-itself": [directory(b".", mode=0o711, mtime_ns=MOMENT), file(b"f", b"x")],
}

_PRIVILEGED: Final[dict[str, list[Item]]] = {
    "owners": [
        file(b"f", b"x", uid=1000, gid=100),
        directory(b"d", uid=65534, gid=65534),
        symlink(b"l", b"f", uid=7, gid=8),
        file(b"large", b"x", uid=3_000_000_000, gid=2_000_000_000),
        file(b"set-id", b"x", mode=0o4755, uid=12, gid=13),
    ],
    "devices": [
        special(b"null", EntryType.CHAR, 1, 3, mode=0o666),
        special(b"disk", EntryType.BLOCK, 8, 0, mode=0o660, gid=6),
        special(b"large-numbers", EntryType.CHAR, 300, 70_000),
    ],
    "file-capabilities": [file(b"ping", b"x", mode=0o755, xattrs={b"security.capability": _CAPABILITY})],
    "trusted-attributes": [
        file(b"f", b"x", xattrs={b"trusted.mine": b"1"}),
        symlink(b"l", b"f", xattrs={b"trusted.of-a-link": b"2"}),
    ],
}


class ContentTests(ConformanceTests):
    """Tests of the files that `apply_diff` creates for every type of entry, with all metadata."""

    group: ClassVar = "content"

    @pytest.mark.parametrize("kind", _PLAIN)
    def test_files_of_a_layer(self, bench: DriverRig, kind: str) -> None:
        """A layer shows all files of its tar: type, content, mode, owner, time in ns, target, attributes, names.

        Otherwise programs in a container find other files than their image had.
        """
        _try(bench, _PLAIN[kind])

    @pytest.mark.parametrize("kind", _PRIVILEGED)
    def test_files_that_only_root_can_create(self, bench: DriverRig, kind: str) -> None:
        """For root, owners, devices, and attributes that only root may set are those of the tar.

        Otherwise services cannot read their own files, and `ping` does not work.
        """
        if not bench.is_root:
            pytest.skip("only root can create such files")
        _try(bench, _PRIVILEGED[kind])

    def test_names_that_the_driver_uses_itself(self, bench: DriverRig) -> None:
        """Files that have names from the driver's own home, layer IDs among them, are files like any others.

        Otherwise an image that contains a layer store, such as one with a container engine in it, loses files.
        """
        others = [bench.layer([file(b"other")])]
        others += [bench.layer([file(b"more")], others[0]), bench.writable(others[0])]
        with bench.driver.mounted(others[2]) as path:
            walked = [(*directories, *files) for _, directories, files in os.walk(bench.driver.home)]
            used = {os.fsencode(name) for names in walked for name in names}
        used |= {os.fsencode(layer) for layer in others} | {os.fsencode(os.path.basename(path))}
        names = sorted(name for name in used if not name.startswith(b".wh."))[:_MOST_NAMES]
        items = [directory(b"d"), *(file(b"d/" + name, b"same") for name in names)]
        items += [item for name in names for item in (directory(name), file(name + b"/f", name))]
        items = [item for item in items if item.entry.name != b"d/" or b"d" not in names]
        layer = bench.layer(items)
        wanted = bench.tree(layer)
        if b"d" not in names:
            must_be(wanted, expected_tree(items), "a layer with names that the driver uses")
        child = bench.writable(layer)
        for other in reversed(others):
            bench.driver.remove(other)
        bench.driver.cleanup()
        must_be(bench.tree(layer), wanted, "a layer with names of other layers, after those were removed")
        must_be(bench.tree(child), wanted, "its child")

    def test_shifted_owners(self, bench: DriverRig) -> None:
        """With an ID mapping, files on disk belong to the host's users, and tars have the owners of the layer.

        Otherwise root in a container is root of the machine, or an image that was made has owners of one machine.
        """
        if not bench.is_root:
            pytest.skip("only root can shift owners")
        ranges = [f"0:{_SHIFT}:65536"]
        with bench.another("mapped", uid_map=ranges, gid_map=ranges) as rig:
            _try_shifted(rig)

    def test_a_hard_link_entry_with_other_metadata(self, bench: DriverRig) -> None:
        """The last entry of a file sets its mode, owner and time, and keeps attributes that the entry lacks.

        Otherwise `ping` loses its capabilities if GNU tar has stored a second name of it. The metadata are those of all
        names of the file.
        """
        first = {b"user.one": b"1", b"user.both": b"1"}
        last = {b"user.two": b"2", b"user.both": b"2"}
        if bench.is_root:
            first[b"security.capability"] = _CAPABILITY
        else:
            bench.not_tried("only root can set owners and file capabilities")
        owner = {"uid": 12, "gid": 34} if bench.is_root else {}
        items = [
            file(b"first", b"x", mode=0o755, xattrs=first),
            directory(b"d"),
            hard_link(b"d/last", b"first", mode=0o4751, mtime_ns=MOMENT + 5, xattrs=last, **owner),
        ]
        tree = bench.tree(bench.layer(items))
        wanted = expected_tree(
            [file(b"first", b"x", mode=0o4751, mtime_ns=MOMENT + 5, xattrs={**first, **last}, **owner)]
        )
        node = replace(wanted[b"first"], names=frozenset({b"first", b"d/last"}))
        names = {path: found for path, found in tree.items() if found.kind == "file"}
        must_be(names, {b"first": node, b"d/last": node}, "a file whose last name came with other metadata")

    @pytest.mark.parametrize("kind", _PLAIN)
    def test_files_of_a_parent_in_its_child(self, bench: DriverRig, kind: str) -> None:
        """A child shows every file of its parent exactly as the parent does.

        Otherwise files differ between images with one layer and images with several.
        """
        parent = bench.layer(_PLAIN[kind])
        wanted = bench.tree(parent)
        child = bench.layer([file(b"of-the-child", b"1")], parent)
        tree = bench.tree(child)
        tree.pop(b"of-the-child", None)
        must_be(tree, wanted, "the parent's files in the child", root=False)

    def test_the_umask_does_not_matter(self, bench: DriverRig) -> None:
        """Modes come from the tar, not from the umask of the process.

        Otherwise an image that was pulled under a strict umask does not start.
        """
        items = [directory(b"d", mode=0o777), file(b"d/f", b"x", mode=0o666)]
        old = os.umask(0o077)
        try:
            layer = bench.layer(items)
        finally:
            os.umask(old)
        must_be(bench.tree(layer), expected_tree(items), "a layer that was unpacked under umask 077")

    @pytest.mark.parametrize("dialect", ["sparse-old-gnu", "sparse-pax"])
    def test_sparse_files(self, bench: DriverRig, dialect: str) -> None:
        """A sparse file of a tar becomes a file of its full length, with zeros in its holes.

        Otherwise disk images and databases in a layer are cut off.
        """
        layer = bench.layer(DIALECTS[dialect])
        content = b"begin" + bytes(69_995) + b"end"
        assert bench.tree(layer)[b"sparse"].content == shown(content), "the sparse file has other content"
        with bench.driver.mounted(layer) as path:
            taken = os.stat(os.path.join(path, "sparse")).st_blocks * 512
        if taken >= len(content):
            bench.note(f"a sparse file of {len(content)} bytes takes {taken} bytes of disk: its hole is filled")

    def test_later_entries_replace_earlier_ones(self, bench: DriverRig) -> None:
        """An entry replaces an existing file of its name, but a directory over a directory merges with it.

        Otherwise a file that is in a tar twice shows its first content, or a mixture of both.
        """
        items = [
            file(b"twice", b"first, and longer"),
            directory(b"merged", mode=0o700),
            file(b"merged/kept", b"k"),
            directory(b"was-directory"),
            file(b"was-file", b"x"),
            file(b"twice", b"second"),
            directory(b"merged", mode=0o750),
            file(b"was-directory", b"now a file"),
            directory(b"was-file"),
        ]
        must_be(bench.tree(bench.layer(items)), expected_tree(items), "a layer with entries of one name")

    @pytest.mark.parametrize(
        "name", [b"../outside", b"a/../../outside", b"/../outside", b"link/outside", b"up/outside"], ids=os.fsdecode
    )
    def test_no_entry_leaves_the_root(self, bench: DriverRig, name: bytes) -> None:
        """No entry creates or changes a file outside of its layer, whatever `..` and links are in its name.

        Otherwise a hostile image overwrites files of the machine.
        """
        outside = bench.root / "outside-of-the-driver"
        outside.mkdir()
        links = [
            symlink(b"link", os.fsencode(outside)),
            symlink(b"up", b"../" * 30 + os.fsencode(outside).lstrip(b"/")),
        ]
        layer = bench.new_id()
        bench.driver.create(layer, "", {})
        items = [*links, file(name, b"written by a hostile layer")]
        try:
            bench.apply(layer, "", items)
        except (InvalidLayer, OSError) as error:
            bench.note(f"{name!r}: refused: {type(error).__name__}")
            found = [where for where, _, names in os.walk(bench.root) if "outside" in names]
        else:
            inside = any(path.rpartition(b"/")[2] == b"outside" for path in bench.tree(layer))
            found = [] if inside else ["nowhere in the layer's own tree"]
        written = os.listdir(outside)
        assert not written and not found, f"the entry {name!r} was not kept inside the layer: {written or found}"


def _try_shifted(rig: DriverRig) -> None:
    items = [
        directory(b"d", uid=1, gid=2),
        file(b"d/f", b"x", uid=1000, gid=100),
        file(b"of-root", b"x", mode=0o4755),
        symlink(b"link", b"d/f", uid=7, gid=8),
        file(b"linked", b"x", uid=3),
        hard_link(b"twin", b"linked", uid=4, gid=5),
        file(b"implied/f", b"x", uid=6),
    ]
    owners = {item.entry.name.strip(b"/"): (item.entry.uid, item.entry.gid) for item in items}
    owners |= {b"linked": owners[b"twin"], b"implied": (0, 0), b"": (0, 0)}
    on_disk = {name: (uid + _SHIFT, gid + _SHIFT) for name, (uid, gid) in owners.items()}
    base = rig.layer(items)
    child = rig.layer([file(b"new", b"n", uid=9), whiteout(b"of-root")], base)
    writable = rig.writable(child)
    assert _owners(rig.tree(base)) == on_disk, "the owners on disk"
    changed = {**on_disk, b"new": (9 + _SHIFT, _SHIFT)}
    del changed[b"of-root"]
    assert _owners(rig.tree(child)) == _owners(rig.tree(writable)) == changed, "the owners on disk, of children"
    assert rig.driver.changes(writable, child) == [], "an untouched writable layer has changes"
    with rig.driver.mounted(writable) as path:
        os.chown(os.path.join(path, "new"), 11 + _SHIFT, 12 + _SHIFT)
        os.chown(path, 13 + _SHIFT, 14 + _SHIFT)
    for layer, parent, wanted in (
        # A driver may give the tar that was applied, which lacks one of these, and has another twice.
        (base, "", {name: owners[name] for name in (b"d", b"d/f", b"of-root", b"link", b"twin", b"implied/f")}),
        (child, base, {b"new": (9, 0)}),
        (writable, child, {b"new": (11, 12), b"": (13, 14)}),
    ):
        with tarfile.open(fileobj=io.BytesIO(rig.diff(layer, parent)), encoding="utf-8") as tar:
            found = {os.fsencode(entry.name).strip(b"./"): (entry.uid, entry.gid) for entry in tar}
        assert {name: found.get(name) for name in wanted} == wanted, "the owners in a layer's diff"
        copy = rig.layer(rig.diff(layer, parent), parent)
        trees = rig.tree(copy), rig.tree(layer)
        for tree in trees:
            tree.pop(b"implied", None)  # no entry of the tar sets its time
        must_be(*trees, "the diff, applied again", root=layer == writable)
    entries = list(read_entries(stream_of(tar_of(items))))
    assert not rig.driver.check_tree(base, "", entries), "check_tree finds a difference in an undamaged layer"


def _owners(tree: Tree) -> dict[bytes, tuple[int, int]]:
    return {name: (node.uid, node.gid) for name, node in tree.items()}


def _try(bench: DriverRig, items: list[Item]) -> None:
    layer = bench.layer(items)
    wanted = expected_tree(items)
    found = bench.tree(layer)
    if b"" not in wanted:
        found.pop(b"")
    if not bench.is_root:
        found, wanted = readable(found), readable(wanted)
    must_be(found, wanted, "the layer's files")
