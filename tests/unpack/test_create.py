"""Metadata of unpacked files: modes, access lists, set-group-ID directories, times, attributes, and missing rights."""

from __future__ import annotations

import errno
import json
import os
import stat
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core import log
from layerstore_core.errors import InvalidLayer
from tests import tars
from tests.conftest import needs_root
from tests.pipeline import round_trip, unpack_tar

ACL_UNDEFINED = (1 << 32) - 1
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw, permitted


def access_list(user: int, group: int, other: int) -> bytes:
    """Return an access list as the kernel stores it: for owner, group, others, and user 7, who may do everything."""
    entries = [(1, user, ACL_UNDEFINED), (2, 7, 7), (4, group, ACL_UNDEFINED), (16, 7, ACL_UNDEFINED)]
    entries.append((32, other, ACL_UNDEFINED))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def set_default_acl(path: Path) -> None:
    try:
        os.setxattr(path, "system.posix_acl_default", access_list(7, 0, 0))
    except OSError as error:
        pytest.skip(f"the file system has no access lists: {error}")


@pytest.fixture
def warnings() -> Iterator[list[str]]:
    messages: list[str] = []
    log.enable()
    sink = log.logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
    yield messages
    log.logger.remove(sink)
    log.logger.disable("layerstore_core")


@pytest.mark.parametrize("where", ["root", "inner", "implied", "by the layer"])
def test_modes_do_not_depend_on_a_default_access_list(where: str, root: Path) -> None:
    before = b""
    if where == "root":
        set_default_acl(root)
    elif where in ("inner", "implied"):
        (root / "d").mkdir()
        set_default_acl(root / "d")
    else:
        set_default_acl(root)
        os.removexattr(root, "system.posix_acl_default")
        before = tars.pax([(b"SCHILY.xattr.system.posix_acl_default", access_list(7, 0, 0))]) + tars.directory(b"d")
    name = b"d/new/f" if where == "implied" else b"d/f"
    tar = tars.tar(
        before,
        tars.entry(name, b"x", mode=0o666),
        tars.directory(b"d/sub", mode=0o777),
        tars.entry(b"d/sub/g", mode=0o644),
    )
    round_trip(tar, root)
    found = {path.name: mode_of(path) for path in root.rglob("*")}
    assert found["f"] == 0o666
    assert found["sub"] == 0o777
    assert found["g"] == 0o644
    for name in ("d/f", "d/sub", "d/sub/g", "d/new", "d/new/f"):
        if os.path.exists(root / name) and (name != "d/new" or where == "implied"):
            assert "system.posix_acl" not in str(os.listxattr(root / name)), f"{name} has inherited an access list"


@needs_root
def test_owners_do_not_depend_on_set_group_id_directories(root: Path) -> None:
    (root / "old").mkdir()
    os.chown(root / "old", 5, 6)
    os.chmod(root / "old", 0o2755)
    tar = tars.tar(
        tars.directory(b"new", mode=0o2775, gid=50),
        *(
            tars.entry(d + b"/f", b"x")
            + tars.symlink(d + b"/l", b"f")
            + tars.entry(d + b"/p", typeflag=b"6")
            + tars.directory(d + b"/d", mode=0o755)
            + tars.entry(d + b"/implied/f")
            for d in (b"old", b"new")
        ),
    )
    round_trip(tar, root)
    assert mode_of(root / "new") == 0o2775
    for path in root.glob("*/**/*"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (0, 0), path
        assert not mode_of(path) & 0o2000, path


def test_times_are_set_to_the_nanosecond(root: Path) -> None:
    mtimes = {b"a": b"1.123456789", b"b": b"-1.5", b"c": b"0", b"d": b"1700000000.000000001"}
    parts = [tars.pax([(b"mtime", value)]) + tars.entry(name, b"x") for name, value in mtimes.items()]
    parts += [tars.pax([(b"mtime", b"5.000000007")]) + tars.symlink(b"l", b"absent")]
    parts += [tars.pax([(b"mtime", b"6.000000007")]) + tars.directory(b"dir"), tars.entry(b"dir/f", b"x")]
    round_trip(tars.tar(*parts), root)
    found = {path.name: path.lstat().st_mtime_ns for path in root.iterdir()}
    assert found == {
        "a": 1_123_456_789,
        "b": -1_500_000_000,
        "c": 0,
        "d": 1_700_000_000_000_000_001,
        "l": 5_000_000_007,
        "dir": 6_000_000_007,
    }


@pytest.mark.parametrize(
    "mtime", [b"9223372036854775807", b"-9223372036854775807", b"99999999999.5", b"9999999999999999999"]
)
def test_times_beyond_every_file_systems_range_are_accepted(mtime: bytes, root: Path) -> None:
    tar = tars.tar(
        *(
            tars.pax([(b"mtime", mtime)]) + part
            for part in (tars.entry(b"f"), tars.directory(b"d"), tars.symlink(b"l", b"x"))
        )
    )
    round_trip(tar, root)
    assert len(list(root.iterdir())) == 3


@needs_root
def test_xattrs_are_set_on_every_type_of_file(root: Path) -> None:
    attribute = tars.pax([(b"SCHILY.xattr.trusted.a", b"\0v\n=")])
    user = tars.pax([(b"SCHILY.xattr.user.b", b"u")])
    tar = tars.tar(
        attribute + tars.entry(b"f", b"x"),
        attribute + tars.directory(b"d"),
        attribute + tars.symlink(b"l", b"f"),
        attribute + tars.entry(b"p", typeflag=b"6"),
        attribute + tars.entry(b"c", typeflag=b"3", device=(5, 1)),
        user + tars.hard_link(b"h", b"f"),
    )
    round_trip(tar, root)
    for name in "fdlpc":
        assert os.getxattr(root / name, "trusted.a", follow_symlinks=False) == b"\0v\n="
    assert os.getxattr(root / "f", "user.b") == b"u"


@needs_root
def test_capabilities_survive_the_change_of_owner(root: Path) -> None:
    tar = tars.tar(
        tars.pax([(b"SCHILY.xattr.security.capability", CAPABILITY)]) + tars.entry(b"f", b"x", uid=5, mode=0o4755)
    )
    round_trip(tar, root)
    assert os.getxattr(root / "f", "security.capability") == CAPABILITY
    assert mode_of(root / "f") == 0o4755


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (b"user." + b"n" * 300, b"v"),
        (b"user.a", b"v" * 70000),
        (b"", b"v"),
        (b"user.", b"v"),
        (b"system.posix_acl_access", struct.pack("<I", 2) + b"no list"),
        (b"system.posix_acl_access", b"no list"),
    ],
)
def test_impossible_xattrs_are_refused(name: bytes, value: bytes, root: Path) -> None:
    with pytest.raises(InvalidLayer, match="extended attribute") as caught:
        unpack_tar(tars.tar(tars.pax([(b"SCHILY.xattr." + name, value)]) + tars.entry(b"f", b"x")), root)
    assert (caught.value.entry, caught.value.offset) == (b"f", 0)


def test_xattrs_outside_the_namespaces_of_linux_are_left_out_with_a_warning(root: Path, warnings: list[str]) -> None:
    """Tars made on a Mac contain many."""
    tar = tars.tar(tars.pax([(b"SCHILY.xattr.com.apple.provenance", b"v")]) + tars.entry(b"f", b"x"))
    round_trip(tar, root)
    (warning,) = warnings
    assert "com.apple.provenance (of 1 entries)" in warning


@needs_root
def test_unsupported_xattrs_are_left_out_only_with_best_effort_xattrs(
    root: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    tar = tars.tar(tars.pax([(b"SCHILY.xattr.user.a", b"v")]) + tars.entry(b"f", b"x"))
    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(OSError, match="not supported") as caught:
        unpack_tar(tar, root)
    assert "while setting the extended attribute 'user.a'" in caught.value.__notes__
    assert warnings == []
    round_trip(tar, root, best_effort_xattrs=True)
    (warning,) = warnings
    assert "user.a" in warning


def test_xattrs_of_overlayfs_are_left_out_with_a_warning(root: Path, warnings: list[str]) -> None:
    records = [(b"SCHILY.xattr.trusted.overlay.opaque", b"y"), (b"SCHILY.xattr.user.overlay.redirect", b"/x")]
    round_trip(tars.tar(tars.pax(records) + tars.directory(b"d")), root)
    assert os.listxattr(root / "d") == []
    (warning,) = warnings
    assert "attributes of overlayfs (of 2 entries)" in warning


UNPRIVILEGED = """
import json, os, sys
from pathlib import Path
from layerstore_core import log
from tests.pipeline import assemble_tar, unpack_tar
messages = []
log.enable()
log.logger.remove()
log.logger.add(lambda message: messages.append(message.record["message"]), level="WARNING")
tar, root = sys.argv[1:]
os.umask(0o077)
unpacked = unpack_tar(tar, Path(root), spool=Path(root))
exact = assemble_tar(unpacked) == Path(tar).read_bytes()
modes = {str(path.relative_to(root)): oct(path.lstat().st_mode) for path in Path(root).rglob("*")}
print(json.dumps({"exact": exact, "warnings": messages, "size": unpacked.size, "modes": modes}))
"""


@needs_root
def test_an_ordinary_user_unpacks_all_but_privileged_metadata(tmp_path: Path) -> None:
    records = [
        (b"SCHILY.xattr.user.mine", b"v"),
        (b"SCHILY.xattr.trusted.not", b"v"),
        (b"SCHILY.xattr.security.capability", CAPABILITY),
    ]
    tar = tars.tar(
        tars.directory(b"readonly", mode=0o555),
        tars.entry(b"readonly/secret", b"hidden", mode=0),
        tars.entry(b"owned", b"x", uid=5, gid=5, mode=0o4755),
        tars.entry(b"large id", b"x", uid=(1 << 32) - 2, mode=0o666),
        tars.pax(records) + tars.entry(b"attributes", b"x"),
        tars.pax(records[:1]) + tars.entry(b"locked", b"x", mode=0o444),
        tars.entry(b"device", typeflag=b"3", device=(5, 1)),
        tars.hard_link(b"second device", b"device"),
        tars.entry(b"fifo", typeflag=b"6"),
        tars.symlink(b"link", b"owned", uid=5),
        tars.hard_link(b"readonly/hard", b"owned", mode=0o4755),
        tars.directory(b"gone", mode=0),
        tars.entry(b"gone/x", b"x", mode=0),
        tars.entry(b".wh.gone"),
        tars.entry(b"readonly/secret", b"again", mode=0),
        tars.directory(b"./", mode=0o500),
    )
    path, root = tmp_path / "layer.tar", tmp_path / "root"
    path.write_bytes(tar)
    root.mkdir()
    os.chown(root, 65534, 65534)
    for above in tmp_path.parents[:3]:
        if not mode_of(above) & 1:
            os.chmod(above, mode_of(above) | 0o711)
    os.chmod(tmp_path, 0o755)
    command = [
        "setpriv",
        "--reuid=65534",
        "--regid=65534",
        "--clear-groups",
        sys.executable,
        "-c",
        UNPRIVILEGED,
        path,
        root,
    ]
    checkout = Path(__file__).resolve().parents[2]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=checkout)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["exact"]
    (warning,) = found["warnings"]
    for what in ("owners (of ", "devices (of 1 ", "trusted.not", "security.capability"):
        assert what in warning
    assert "user.mine" not in warning
    assert found["size"] == 5 + 1 + 1 + 1 + 1 + 5
    assert {name: int(mode, 8) & 0o7777 for name, mode in found["modes"].items() if name != "link"} == {
        "readonly": 0o755,
        "readonly/secret": 0o400,
        "readonly/hard": 0o4755,
        "owned": 0o4755,
        "large id": 0o666,
        "attributes": 0o644,
        "locked": 0o444,
        "fifo": 0o644,
    }
    assert os.getxattr(root / "attributes", "user.mine") == b"v"
    assert os.getxattr(root / "locked", "user.mine") == b"v"


@needs_root
def test_an_owner_that_is_left_out_is_counted_once_per_entry() -> None:
    """So is the owner of a directory that exists already."""
    tar = tars.tar(*[tars.directory(b"d%d/" % number, uid=77, gid=77) for number in range(10)])
    code = """
import encodings.ascii, io, os, sys  # the other user may have no access to the interpreter's directory
from layerstore_core import log
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.unpack.unpacker import unpack_layer
log.configure(1)
tar = sys.stdin.buffer.read()
os.chdir(sys.argv[1])
os.setgid(12345)
os.setuid(12345)
for _ in range(2):
    unpack_layer(LayerStream(TarScanner(io.BytesIO(tar).read)), ".")
"""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are in a directory that only root may enter
        os.chown(directory, 12345, 12345)
        done = subprocess.run([sys.executable, "-c", code, directory], input=tar, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count(b"owners (of 10 entries)") == 2, done.stderr
