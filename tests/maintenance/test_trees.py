"""A full check compares the files that users mount with the tars, and a repair rebuilds them from the tars."""

from __future__ import annotations

import os
import shutil
import stat
import struct
from dataclasses import replace

import pytest

from layerstore_core.conformance.trees import read_tree
from layerstore_core.maintenance.check import check_store, repair
from tests import tars
from tests.maintenance.test_repair import codes, files_of
from tests.store.layers import MTIME, chain, export

LOWER = tars.tar(
    tars.directory(b"./", mtime=MTIME),
    tars.directory(b"d", mtime=MTIME),
    tars.entry(b"d/file", b"content" * 100, mode=0o640, uid=5, gid=6, mtime=MTIME),
    tars.entry(b"d/link", typeflag=b"2", linkname=b"file", mtime=MTIME),
    tars.entry(b"d/other", typeflag=b"1", linkname=b"d/file", mode=0o640, uid=5, gid=6, mtime=MTIME),
    tars.entry(b"d/fifo", typeflag=b"6", mtime=MTIME),
    tars.entry(b"d/null", typeflag=b"3", device=(1, 3), mtime=MTIME),
    tars.entry(b"d/alone", b"alone", mtime=MTIME),
    tars.directory(b"hidden", mtime=MTIME),
    tars.entry(b"hidden/old", b"old", mtime=MTIME),
    tars.entry(b"gone", b"gone", mtime=MTIME),
    tars.entry(b"linked", b"linked", mode=0o640, mtime=MTIME),
    tars.entry(b"implied/file", b"implied", mtime=MTIME),
)
UPPER = tars.tar(
    tars.directory(b"./", mtime=MTIME),
    tars.directory(b"hidden", mtime=MTIME),
    tars.entry(b"hidden/.wh..wh..opq", mtime=MTIME),
    tars.entry(b"hidden/new", b"new", mtime=MTIME),
    tars.entry(b".wh.gone", mtime=MTIME),
    tars.entry(b"d/added", b"added", mtime=MTIME),
    tars.hard_link(b"link", b"linked", mode=0o640, mtime=MTIME),
)


def flip(path):
    """Flip one bit of the content, and keep the time."""
    status = path.stat()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_with(path, make):
    """Remove a file, and call a function that creates another one in its place."""
    path.unlink()
    make()


def break_hard_link(tree):
    """Replace a hard link by a separate file with the same content."""
    (tree / "d/other").unlink()
    shutil.copy2(tree / "d/file", tree / "d/other")
    os.chown(tree / "d/other", 5, 6)


def remove_all(tree):
    """Remove all that is in a tree."""
    for path in tree.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


#: A default access control list in the format of the kernel: rwx for the owner, r-x for all others.
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", tag, rights, 0xFFFFFFFF) for tag, rights in ((1, 7), (4, 5), (32, 5))
)
#: Functions that harm the tree of a base layer, and words that the message of the finding must have.
HARM = {
    "content": (lambda tree: flip(tree / "d/alone"), "alone"),
    "a mode": (lambda tree: (tree / "d/alone").chmod(0o4777), "/d/alone' has the mode 4777"),
    "a directory's mode": (lambda tree: (tree / "d").chmod(0o777), "/d' has"),
    "an owner": (lambda tree: os.chown(tree / "d/alone", 1, 1), "/d/alone' belongs to 1:1"),
    "a link's owner": (lambda tree: os.lchown(tree / "d/link", 1, 1), "/d/link' belongs"),
    "a time": (lambda tree: os.utime(tree / "d/alone", (1, 1)), "/d/alone' has the time"),
    "a directory's time": (lambda tree: os.utime(tree / "d", (1, 1)), "/d' has the time"),
    "an attribute": (lambda tree: os.setxattr(tree / "d/alone", "user.x", b""), "user.x"),
    "an attribute of an implied directory": (
        lambda tree: os.setxattr(tree / "implied", "user.x", b""),
        "/implied' has",
    ),
    "an access control list of the root": (lambda tree: os.setxattr(tree, "system.posix_acl_default", ACL), "'/' has"),
    "a file with a hard link in the child": (lambda tree: (tree / "linked").chmod(0o600), "/linked' has the mode"),
    "the content of a file with a hard link in the child": (lambda tree: flip(tree / "linked"), "/linked"),
    "an attribute of a file with a hard link in the child": (
        lambda tree: os.setxattr(tree / "linked", "user.x", b"1"),
        "/linked' has",
    ),
    "the target of a link": (
        lambda tree: replace_with(tree / "d/link", lambda: (tree / "d/link").symlink_to("elsewhere")),
        "/d/link' leads to 'elsewhere'",
    ),
    "a missing link": (lambda tree: (tree / "d/link").unlink(), "/d/link' is missing"),
    "a hard link replaced by a copy": (break_hard_link, "/d/other"),
    "a hard link too many": (
        lambda tree: replace_with(tree / "d/alone", lambda: os.link(tree / "d/file", tree / "d/alone")),
        "/d/alone'",
    ),
    "another device": (
        lambda tree: replace_with(
            tree / "d/null", lambda: os.mknod(tree / "d/null", stat.S_IFCHR | 0o644, os.makedev(1, 5))
        ),
        "/d/null' has the device numbers 1:5",
    ),
    "another type": (
        lambda tree: replace_with(tree / "d/fifo", (tree / "d/fifo").mkdir),
        "/d/fifo' is a directory",
    ),
    "an extra file": (lambda tree: (tree / "d/more").touch(), "/d/more' is there"),
    "an extra directory": (lambda tree: (tree / "more").mkdir(), "/more' is there"),
    "a missing directory": (lambda tree: shutil.rmtree(tree / "hidden"), "/hidden' is missing"),
}
#: The same for the own files of a layer with a parent.
HARM_CHILD = {
    "content": (lambda tree: flip(tree / "hidden/new"), "hidden/new"),
    "a mode": (lambda tree: (tree / "d/added").chmod(0o4777), "/d/added' has the mode 4777"),
    "the mode of a directory of the parent": (lambda tree: (tree / "d").chmod(0o700), "/d' has"),
    "an attribute of a directory of the parent": (lambda tree: os.setxattr(tree / "d", "user.x", b""), "/d' has"),
    "the time of a hard link to a file of the parent": (
        lambda tree: os.utime(tree / "link", (1, 1)),
        "/link' has the time",
    ),
    "an attribute of a hard link to a file of the parent": (
        lambda tree: os.setxattr(tree / "link", "user.x", b""),
        "/link' has",
    ),
    "the owner of a hard link to a file of the parent": (lambda tree: os.chown(tree / "link", 1, 1), "/link' belongs"),
    "an extra file": (lambda tree: (tree / "more").touch(), "/more' is there"),
    "an extra file in a directory of the parent": (lambda tree: (tree / "d/more").touch(), "/d/more' is there"),
}
#: The same for inherited files, with drivers whose layers are whole trees.
HARM_INHERITED = {
    "content": (lambda tree: flip(tree / "d/file"), "/d/file' has another content than in the parent"),
    "a mode": (lambda tree: (tree / "d/alone").chmod(0o4777), "/d/alone' has another mode"),
    "an owner": (lambda tree: os.chown(tree / "d/alone", 1, 1), "/d/alone' has another owner"),
    "a time": (lambda tree: os.utime(tree / "d/alone", (1, 1)), "/d/alone' has another time"),
    "an attribute": (lambda tree: os.setxattr(tree / "d/alone", "user.x", b"1"), "/d/alone' has another set of"),
    "a missing file": (lambda tree: (tree / "d/alone").unlink(), "/d/alone' is missing"),
    "the target of a link": (
        lambda tree: replace_with(tree / "d/link", lambda: (tree / "d/link").symlink_to("elsewhere")),
        "/d/link' has another target",
    ),
    "a hard link replaced by a copy": (break_hard_link, "/d/other"),
    "a hidden file": (lambda tree: (tree / "hidden/old").write_text("old"), "/hidden/old' is there"),
    "a deleted file": (lambda tree: (tree / "gone").write_text("gone"), "/gone' is there, and the layer deletes it"),
    "all files missing": (remove_all, "is missing"),
}
#: The same for the whiteouts and attributes of overlayfs.
HARM_MARKS = {
    "no whiteout": (lambda tree: (tree / "gone").unlink(), "/gone' shows again"),
    "a whiteout too many": (
        lambda tree: os.mknod(tree / "d/alone", stat.S_IFCHR, 0),
        "/d/alone' is hidden by a whiteout",
    ),
    "no opaque mark": (
        lambda tree: os.removexattr(tree / "hidden", "trusted.overlay.opaque"),
        "/hidden' is not marked as opaque",
    ),
    "an opaque mark too many": (
        lambda tree: os.setxattr(tree / "d", "trusted.overlay.opaque", b"y"),
        "/d' is marked as opaque",
    ),
    "an opaque root": (lambda tree: os.setxattr(tree, "trusted.overlay.opaque", b"y"), "'/' is marked as opaque"),
    "a redirect": (
        lambda tree: os.setxattr(tree / "d", "trusted.overlay.redirect", b"/hidden"),
        "/d' has the attribute trusted.overlay.redirect",
    ),
    "the attribute of a whiteout": (
        lambda tree: os.setxattr(tree / "d/added", "trusted.overlay.whiteout", b""),
        "/d/added' has the attribute trusted.overlay.whiteout",
    ),
    "a file with its content in another layer": (
        lambda tree: os.setxattr(tree / "hidden/new", "trusted.overlay.metacopy", b""),
        "/hidden/new' has the attribute trusted.overlay.metacopy",
    ),
    "a deleted file": (
        lambda tree: replace_with(tree / "gone", lambda: (tree / "gone").write_text("gone")),
        "/gone' is there, and the layer deletes it",
    ),
}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: to create devices and set owners")


@pytest.fixture
def layers(store):
    """Register a layer and its child, pin the child and close the handles."""
    layers = chain(store, LOWER, UPPER)
    store.pin(layers[1])
    for handle in layers:
        handle.close()
    return layers


def shown(store, layer):
    """Return the tree of a layer on a mount."""
    with store.driver.mounted(store.find(layer._node.record.chain_id).cache_id) as path:
        found = read_tree(path)
    if found.get(b"implied") is not None:
        # The tar says no time for a directory without an entry.
        found[b"implied"] = replace(found[b"implied"], mtime_ns=0)
    return found


def assert_found_and_repaired(store, layers, harmed, harm, word):
    """Harm a layer; check that a full check finds only this, and that a repair restores all trees and tars."""
    before = [shown(store, layer) for layer in layers]
    exported = [export(layer) for layer in map(store.find, (layer.chain_id for layer in layers))]
    harm(files_of(store, harmed._node.record.cache_id))
    findings = check_store(store, full=True)
    assert [finding.subject for finding in findings] == [harmed.chain_id], findings
    assert set(codes(findings)) <= {"tree-differs", "damaged"}
    if codes(findings) == ["damaged"]:  # the tar itself needs this file: only a repair source helps
        assert repair(store, findings) == findings
        return
    assert word in findings[0].message
    assert repair(store, findings) == []
    assert check_store(store, full=True) == []
    assert [shown(store, layer) for layer in layers] == before
    assert [export(layer) for layer in map(store.find, (layer.chain_id for layer in layers))] == exported


@pytest.mark.parametrize("harm", HARM)
def test_damaged_files_of_a_base_layer_are_found_and_repaired(store, layers, harm):
    assert_found_and_repaired(store, layers, layers[0], *HARM[harm])


@pytest.mark.parametrize("harm", HARM_CHILD)
def test_damaged_files_of_a_child_layer_are_found_and_repaired(store, layers, harm):
    assert_found_and_repaired(store, layers, layers[1], *HARM_CHILD[harm])


@pytest.mark.parametrize("harm", HARM_INHERITED)
def test_damaged_files_that_a_layer_inherits_are_found_and_repaired(store, layers, harm):
    if store.driver_name != "overlay2":  # layers of overlay2 have only their own files
        assert_found_and_repaired(store, layers, layers[1], *HARM_INHERITED[harm])


class TestOverlay:
    @pytest.fixture
    def driver(self):
        return "overlay2"

    @pytest.mark.parametrize("harm", HARM_MARKS)
    def test_harm_to_whiteouts_and_overlay_attributes(self, store, layers, harm):
        assert_found_and_repaired(store, layers, layers[1], *HARM_MARKS[harm])
