"""`check_tree`: a layer's tree is compared with its tar and with its parent's tree."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from layerstore_core import IDMapping, LayerStream, unpack_layer
from layerstore_core.sdk import Difference, UnpackRights, check_tree
from layerstore_core.verify.difference import describe_differences
from layerstore_core.verify.expected import read_entries

MTIME = 1_700_000_000


def tar_of(*names: str) -> bytes:
    """Return a tar of directories (with a slash), hard links (`name=target`) and files whose content is their name."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            path, _, target = name.partition("=")
            info = tarfile.TarInfo(path.rstrip("/"))
            info.uid, info.gid, info.mtime = os.geteuid(), os.getegid(), MTIME
            info.mode = 0o755 if path.endswith("/") else 0o644
            if path.endswith("/"):
                info.type = tarfile.DIRTYPE
            elif target:
                info.type, info.linkname = tarfile.LNKTYPE, target
            else:
                info.size = len(path)
            tar.addfile(info, io.BytesIO(path.encode()))
    return out.getvalue()


class Layers:
    """A parent's tree and a layer's tree, unpacked from tars."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.upper, self.lower = home / "upper", home / "lower"
        parent = tar_of("kept", "gone", "d/", "d/old")
        self.tar = tar_of("new", "link=kept", ".wh.gone", "d/", "d/new")
        for tree, tars in ((self.lower, [parent]), (self.upper, [parent, self.tar])):
            tree.mkdir(mode=0o755)
            for tar in tars:
                unpack_layer(LayerStream.over(io.BytesIO(tar)), str(tree), id_mapping=IDMapping())

    def differences(self) -> list[Difference]:
        entries = read_entries(LayerStream.over(io.BytesIO(self.tar)))
        rights = UnpackRights(self.home)
        return check_tree(str(self.upper), str(self.lower), entries, rights=rights, id_mapping=IDMapping())


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path)


def test_a_tree_as_unpacked_has_no_differences(layers: Layers) -> None:
    assert layers.differences() == []


def rewrite(path: Path, content: str) -> None:
    path.write_text(content)
    os.utime(path, (MTIME, MTIME))


@pytest.mark.parametrize(
    ("damage", "what", "inherited"),
    [
        (lambda tree: rewrite(tree / "new", "NEW"), "'/new' has another content than in the layer's tar", False),
        (lambda tree: rewrite(tree / "d/old", "D/OLD"), "'/d/old' has another content than in the parent", True),
        (lambda tree: (tree / "d/new").unlink(), "'/d/new' is missing", False),
        (lambda tree: (tree / "d/old").unlink(), "'/d/old' is missing; the parent has it", True),
        (lambda tree: (tree / "gone").touch(), "'/gone' is there, and the layer deletes it", False),
        (lambda tree: (tree / "extra").touch(), "'/extra' is there, and neither the layer's tar nor its parent", True),
        (lambda tree: (tree / "new").chmod(0o600), "'/new' has the mode 0600, and should have 0644", False),
        (lambda tree: os.utime(tree / "new", (1, 1)), "'/new' has the time 1.000000000, and should have", False),
    ],
)
def test_damage_is_reported(layers: Layers, damage: Callable[[Path], object], what: str, inherited: bool) -> None:
    damage(layers.upper)
    (difference,) = (one for one in layers.differences() if one.path != b"d" or "time" not in one.what)
    assert str(difference).startswith(what)
    assert difference.inherited is inherited


def test_a_broken_hard_link_is_reported_for_both_names(layers: Layers) -> None:
    link = layers.upper / "link"
    link.unlink()
    rewrite(link, "kept")
    link.chmod(0o644)
    found = {one.path: one.what for one in layers.differences() if "same file" in one.what}
    assert found == {
        b"kept": "should be the same file as '/link', and is another",
        b"link": "should be the same file as '/kept', and is another",
    }


def test_differences_are_described_in_one_sentence() -> None:
    found = [Difference(name.encode(), "is missing") for name in ("a", "b", "c")]
    assert describe_differences(found, 3) == "'/a' is missing; '/b' is missing; '/c' is missing"
    assert describe_differences(found, 1) == "'/a' is missing; and 2 more"
