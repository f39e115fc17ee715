"""Random tars with all that tars can have: each is exported exactly, or refused with `InvalidLayer`."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from layerstore_core.errors import InvalidLayer
from layerstore_core.tree.remove import remove_tree
from tests import tars
from tests.pipeline import assemble_tar, unpack_tar

# Only a few names, so that entries replace, contain, link and delete one another.
components = st.sampled_from(
    [b"a", b"b", b"c", b".wh.a", b".wh.b", b".wh..wh..opq", b".", b"..", b"", b"\xe4\xff", b"\xe2\x80\xa8"]
)
names = st.one_of(
    st.lists(components, min_size=1, max_size=3).map(b"/".join),
    st.sampled_from([b"/a", b"./b/c", b"a/", b"n" * 100, b"n" * 98 + b"/m", b".wh..wh.plnk/1", b".wh..wh.aufs"]),
)
long_names = st.one_of(names, st.sampled_from([b"l" * 120, b"d" * 200 + b"/" + b"f" * 200, b"\xff" * 150]))
contents = st.one_of(st.just(b""), st.binary(max_size=20), st.sampled_from([bytes(512), b"x" * 513, b"y" * 3000]))
times = st.sampled_from([0, 1, 1700000000, -1, -(1 << 40), 1 << 40, 8**11 - 1])
ids = st.sampled_from([0, 0, 0, 1000, 0o7777777, 1 << 31, (1 << 32) - 1, 1 << 32, -1])
forms = st.sampled_from(["v7", "ustar", "gnu", "star"])
types = st.sampled_from([b"0", b"\0", b"7", b"1", b"2", b"5", b"6", b"Z", b"D", b"V", b"M", b"A"])


@st.composite
def regions(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    """Draw the size of a sparse file and its map."""
    found, end = [], 0
    for gap, length in draw(st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 600)), max_size=30)):
        found.append((end + gap, length))
        end += gap + length
    return end + draw(st.integers(0, 5000)), found


records = st.one_of(
    st.tuples(st.just(b"path"), long_names),
    st.tuples(st.just(b"linkpath"), names),
    st.tuples(st.just(b"mtime"), st.sampled_from([b"1.5", b"-1.5", b"0.123456789123", b"x", b"99999999999999"])),
    st.tuples(st.sampled_from([b"uid", b"gid"]), st.sampled_from([b"0", b"70000", b"-1", b"4294967296"])),
    st.tuples(st.sampled_from([b"SCHILY.xattr.user.x", b"SCHILY.xattr.trusted.overlay.opaque"]), st.binary(max_size=9)),
    st.tuples(st.just(b"SCHILY.xattr.bad"), st.just(b"v")),
    st.tuples(st.sampled_from([b"comment", b"hdrcharset", b"GNU.sparse.name"]), st.binary(max_size=30)),
)


@st.composite
def entries(draw: st.DrawFn) -> bytes:
    name = draw(names)
    options = {
        "form": draw(forms),
        "mode": draw(st.integers(0, 0o7777)),
        "uid": draw(ids),
        "gid": draw(ids),
        "mtime": draw(times),
    }
    kind = draw(st.sampled_from(["plain", "plain", "plain", "pax", "gnu", "sparse", "global", "prefix", "device"]))
    if kind == "global":
        return tars.pax(draw(st.lists(records, max_size=2)), typeflag=b"g")
    if kind == "sparse":
        size, chosen = draw(regions())
        content = bytearray(size)
        for offset, length in chosen:
            content[offset : offset + length] = b"s" * length
        if draw(st.booleans()):
            return tars.sparse_old_gnu(name, bytes(content), chosen)
        return tars.sparse_pax(name, bytes(content), chosen, draw(st.sampled_from(["0.0", "0.1", "1.0"])))
    if kind == "device":
        number = draw(st.sampled_from([0, 5, 0o7777777, -1]))
        return tars.entry(name, typeflag=draw(st.sampled_from([b"3", b"4"])), device=(0, number), **options)
    before = b""
    if kind == "pax":
        before = tars.pax(draw(st.lists(records, max_size=3)))
        size = draw(contents)
        if draw(st.booleans()):
            return before + tars.entry(name, typeflag=b"0", **options)
        return tars.pax([(b"size", b"%d" % len(size))]) + tars.header(name, **options) + tars.padded(size)
    if kind == "gnu":
        before = tars.long_name(draw(long_names))
    if kind == "prefix":
        options |= {"form": "ustar", "prefix": draw(names)[:150]}
    flag = draw(types)
    if flag in b"12":
        before += tars.long_name(draw(long_names), b"K") if draw(st.booleans()) else b""
        options["linkname"] = draw(names)
    data = draw(contents) if flag not in b"256" or draw(st.integers(0, 9)) == 0 else b""
    return before + tars.entry(name, data, typeflag=flag, **options)


ends = st.sampled_from(
    [b"", bytes(512), tars.END, tars.END, bytes(10240), tars.END + b"odd trailer", bytes(512) + b"j" * 700]
)
whole_tars = st.builds(lambda parts, end: tars.tar(*parts, end=end), st.lists(entries(), max_size=8), ends)

#: A directory in which extraction is fast.
FAST = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


@contextmanager
def empty_root() -> Iterator[Path]:
    top = Path(tempfile.mkdtemp(prefix="layerstore-test-", dir=FAST))
    try:
        (top / "root").mkdir()
        yield top / "root"
        assert [path.name for path in top.iterdir()] == ["root"], "something was written outside the root"
    finally:
        remove_tree(str(top))


def exact_or_refused(packed: bytes, plain: bytes | None) -> bool:
    """Register a layer and compare its export. Return whether the layer was accepted.

    Args:
        packed: the layer, which may be compressed.
        plain: its uncompressed tar, if that is known.
    """
    with empty_root() as root:
        try:
            taken = unpack_tar(packed, root)
        except InvalidLayer:
            return False
        found = assemble_tar(taken)
        assert hashlib.sha256(found).hexdigest() == taken.diff_id
        assert plain is None or found == plain
        assert taken.size == size_of(root)
        return True


def size_of(root: Path) -> int:
    """Return the size of a tree as Docker counts it: each file once, and symbolic links by their target's length."""
    found = {}
    for where, directories, files in os.walk(os.fsencode(root)):
        for name in directories + files:
            status = os.lstat(os.path.join(where, name))
            if (status.st_mode & 0o170000) in (0o100000, 0o120000):
                found[status.st_ino] = status.st_size
    return sum(found.values())


@given(whole_tars)
@example(tars.tar(tars.entry(b"a", b"x"), tars.hard_link(b"a", b"a")))
@example(tars.tar(tars.pax([(b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.name", b"\0")])))
def test_any_tar_is_exported_exactly_or_refused(tar: bytes) -> None:
    exact_or_refused(tar, tar)


@given(st.lists(whole_tars, min_size=2, max_size=3))
def test_any_child_layers_are_exported_exactly_or_refused(layers: list[bytes]) -> None:
    """Each layer is exported before the next one is applied, since the test applies all layers in one directory."""
    with empty_root() as root:
        for tar in layers:
            try:
                taken = unpack_tar(tar, root)
            except InvalidLayer:
                return
            assert assemble_tar(taken) == tar


good_entries = st.one_of(
    st.builds(tars.entry, st.sampled_from([b"a", b"b", b"d/a", b"./a", b"d//a"]), contents),
    st.builds(tars.directory, st.sampled_from([b"d", b"d/", b"e/f", b"./"])),
    st.builds(tars.symlink, st.sampled_from([b"l", b"a", b"m"]), st.sampled_from([b"d", b"/d", b"../..", b"a"])),
    st.builds(
        tars.entry, st.sampled_from([b".wh.a", b"d/.wh.a", b".wh.d", b"d/.wh..wh..opq", b".wh..wh..opq", b".wh.l"])
    ),
    st.builds(
        lambda n, d: tars.sparse_pax(n, bytes(5000) + d, [(5000, len(d))], "1.0"),
        st.sampled_from([b"a", b"d/s"]),
        contents,
    ),
)


@given(st.lists(good_entries, max_size=10), st.lists(good_entries, max_size=10))
def test_valid_tars_are_accepted(lower: list[bytes], upper: list[bytes]) -> None:
    with empty_root() as root:
        for tar in (tars.tar(*lower), tars.tar(*upper)):
            assert assemble_tar(unpack_tar(tar, root)) == tar


SAMPLE = tars.tar(
    tars.directory(b"d"),
    tars.pax([(b"path", b"d/pax"), (b"mtime", b"1.5"), (b"SCHILY.xattr.user.a", b"v")]) + tars.entry(b"x", b"content"),
    tars.long_name(b"d/" + b"n" * 150) + tars.entry(b"n", b"y" * 600),
    tars.sparse_old_gnu(b"s", bytes(3000) + b"data", [(3000, 4)]),
    tars.sparse_pax(b"t", bytes(3000) + b"data", [(3000, 4)], "1.0"),
    tars.symlink(b"l", b"d"),
    tars.hard_link(b"h", b"s"),
    tars.entry(b"l/f", b"through", form="gnu", uid=1 << 31),
    tars.entry(b".wh.s"),
    tars.entry(b"fifo", typeflag=b"6"),
)
PACK = {
    "plain": lambda data: data,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
}


def test_the_sample_tar_is_accepted() -> None:
    assert exact_or_refused(SAMPLE, SAMPLE)


@pytest.mark.parametrize("form", PACK)
@given(data=st.data())
def test_cut_and_flipped_tars_are_exported_exactly_or_refused(form: str, data: st.DataObject) -> None:
    packed = bytearray(PACK[form](SAMPLE))
    for at in data.draw(st.lists(st.integers(0, len(packed) * 8 - 1), max_size=3)):
        packed[at // 8] ^= 1 << at % 8
    del packed[data.draw(st.one_of(st.just(len(packed)), st.integers(0, len(packed)))) :]
    exact_or_refused(bytes(packed), None)


@given(data=st.data())
def test_damaged_fields_with_a_correct_checksum_are_exported_exactly_or_refused(data: st.DataObject) -> None:
    """A flipped bit alone would never get past the checksum."""
    blocks = [SAMPLE[start : start + 512] for start in range(0, len(SAMPLE), 512)]
    headers = [number for number, block in enumerate(blocks) if block[257:262] == b"ustar"]
    for _ in range(data.draw(st.integers(1, 3))):
        number = data.draw(st.sampled_from(headers))
        at = data.draw(
            st.sampled_from([0, 1, 100, 108, 124, 125, 130, 135, 136, 156, 157, 257, 329, 337, 345, 386, 398, 482, 483])
        )
        with_noise = data.draw(st.binary(min_size=1, max_size=12))
        block = blocks[number]
        blocks[number] = tars.with_checksum((block[:at] + with_noise + block[at + len(with_noise) :])[:512])
    exact_or_refused(b"".join(blocks), None)


@given(
    st.one_of(
        st.binary(max_size=2000),
        st.binary(min_size=512, max_size=512).map(lambda block: tars.with_checksum(block) + tars.END),
    )
)
def test_random_bytes_are_exported_exactly_or_refused(noise: bytes) -> None:
    exact_or_refused(noise, None)


@given(
    st.sampled_from([b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh9", b"\x50\x2a\x4d\x18"]),
    st.binary(max_size=300),
)
def test_random_bytes_after_a_magic_number_are_exported_exactly_or_refused(magic: bytes, noise: bytes) -> None:
    exact_or_refused(magic + noise, None)
