"""The meaning of cleaned names: whiteouts, opaque directories and aufs's own names."""

from __future__ import annotations

import pytest

from layerstore_core.errors import InvalidLayer
from layerstore_core.tar.whiteouts import NameKind, classify, whiteout_name, whiteout_target


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"", NameKind.PLAIN),
        (b"a/b", NameKind.PLAIN),
        (b"a.wh.b", NameKind.PLAIN),
        (b".wh", NameKind.PLAIN),
        (b".wh.d/f", NameKind.PLAIN),
        (b".wh.f", NameKind.WHITEOUT),
        (b"a/.wh.f", NameKind.WHITEOUT),
        (b".wh.", NameKind.WHITEOUT),
        (b".wh..f", NameKind.WHITEOUT),
        (b"a/.wh..wh.plnk", NameKind.WHITEOUT),
        (b".wh..wh..opq", NameKind.OPAQUE),
        (b"a/.wh..wh..opq", NameKind.OPAQUE),
        (b".wh..wh..opq/f", NameKind.AUFS),
        (b".wh..wh.aufs", NameKind.AUFS),
        (b".wh..wh.plnk", NameKind.AUFS),
        (b".wh..wh.plnk/1.2", NameKind.AUFS_LINK),
        (b".wh..wh.plnkx", NameKind.AUFS),
        (b".wh..wh.orph/f", NameKind.AUFS),
    ],
)
def test_names_are_classified(name: bytes, kind: NameKind) -> None:
    assert classify(name) is kind


@pytest.mark.parametrize(
    ("name", "target"), [(b".wh.f", b"f"), (b"a/b/.wh.f", b"a/b/f"), (b".wh..f", b".f"), (b".wh....", b"...")]
)
def test_a_whiteout_deletes_its_target(name: bytes, target: bytes) -> None:
    assert whiteout_target(name) == target
    assert whiteout_name(target) == name


@pytest.mark.parametrize("name", [b".wh.", b".wh..", b".wh...", b"a/.wh."])
def test_a_whiteout_that_names_no_file_is_refused(name: bytes) -> None:
    with pytest.raises(InvalidLayer, match="names no file") as caught:
        whiteout_target(name)
    assert caught.value.entry == name
