"""A store of an ordinary user: metadata that the disk cannot keep comes into commits from the tars of the parents."""

from __future__ import annotations

import codecs
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from layerstore_core import LayerStore, StoreConfig
from layerstore_core.tree.xattrs import read_xattrs
from tests import tars
from tests.driver_roots import remove_root, why_not
from tests.store.layers import export, register, warm

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
T = 1_600_000_000


def with_attributes(entry, *attributes):
    """Return an entry with extended attributes."""
    return (tars.pax([(b"SCHILY.xattr." + key, value) for key, value in attributes]) if attributes else b"") + entry


BASE = tars.tar(
    tars.directory(b"./", mode=0o1777, uid=7, gid=8, mtime=T),
    tars.directory(b"etc/", mode=0o550, gid=5, mtime=T),
    tars.entry(b"etc/shadow", b"root:*:", mode=0, gid=42, mtime=T),
    tars.entry(b"etc/left", b"left", uid=9, mtime=T),
    with_attributes(
        tars.entry(b"ping", b"ELF", mode=0o4711, uid=3, mtime=T),
        (b"security.capability", CAPABILITY),
        (b"trusted.mine", b"1"),
    ),
    with_attributes(
        tars.entry(b"written", b"ELF", mode=0o755, uid=3, mtime=T),
        (b"security.capability", CAPABILITY),
        (b"trusted.mine", b"2"),
    ),
    tars.directory(b"home/", uid=1000, gid=1000, mtime=T),
    tars.entry(b"home/one", b"1", uid=1000, gid=1000, mtime=T),
    tars.hard_link(b"home/two", b"home/one", uid=1000, gid=1000, mtime=T),
    tars.entry(b"again", b"x", uid=1000, mtime=T),
    tars.directory(b"opaque/", uid=6, mtime=T),
    tars.entry(b"opaque/f", b"x", uid=6, mtime=T),
    tars.entry(b"null", typeflag=b"3", device=(1, 3), mtime=T),
    tars.symlink(b"link", b"home", uid=4, mtime=T),
)
MIDDLE = tars.tar(
    tars.entry(b"again", b"root's now", mtime=T),
    tars.entry(b"opaque/.wh..wh..opq", mtime=T),
    tars.entry(b"opaque/own", b"x", uid=2, mtime=T),
)


@pytest.fixture(params=["vfs", "minimal"])
def open_rootless(request, ordinary_user, open_directory, tmp_path):
    """Return a function that opens a store as an ordinary user.

    This user may not be able to read Python's modules, so they are imported before.
    """
    if request.param == "minimal" and why_not("minimal"):
        pytest.skip(why_not("minimal"))
    with LayerStore.open(root=tmp_path / "warm", driver=request.param, durability="none") as store:
        warm(store)
        export(register(store, MIDDLE, register(store, BASE)))
        rw = store.create_rw_layer("box")
        tarfile.open(fileobj=rw.tar_stream(), mode="r|").close()
    codecs.lookup("ascii")
    with ordinary_user():

        def open_(**settings):
            config = StoreConfig(root=open_directory / "store", driver=request.param, durability="none", **settings)
            return LayerStore.open(config)

        yield open_


def change(path):
    """Change files on a mount of a writable layer."""
    root = Path(path)
    with open(root / "ping", "rb"):
        os.chmod(root / "ping", 0o755)
    for name in ("etc/shadow", "written", "home/one", "again", "opaque/own"):
        mode = (root / name).stat().st_mode
        (root / name).chmod(mode | 0o200)
        with open(root / name, "ab") as file:
            file.write(b" and more")
        (root / name).chmod(mode)
    (root / "new").write_text("new")
    (root / "opaque/f").write_text("new, too")
    os.link(root / "home/one", root / "home/three")
    (root / "link").unlink()
    (root / "link").symlink_to("etc")


#: User, group, mode and privileged attributes that each file must have in the commit.
EXPECTED = {
    "": (7, 8, 0o1777, {}),
    "etc": (0, 5, 0o550, {}),
    "etc/shadow": (0, 42, 0, {}),
    "etc/left": (9, 0, 0o644, {}),
    "ping": (3, 0, 0o755, {b"security.capability": CAPABILITY, b"trusted.mine": b"1"}),
    "written": (3, 0, 0o755, {b"trusted.mine": b"2"}),
    "home": (1000, 1000, 0o755, {}),
    "home/one": (1000, 1000, 0o644, {}),
    "home/two": (1000, 1000, 0o644, {}),
    "home/three": (1000, 1000, 0o644, {}),
    "again": (0, 0, 0o644, {}),
    "opaque": (6, 0, 0o755, {}),
    "opaque/own": (2, 0, 0o644, {}),
    "opaque/f": (0, 0, 0o644, {}),
    "new": (0, 0, 0o644, {}),
    "null": (0, 0, 0o644, {}),
    "link": (4, 0, 0o777, {}),
}


@pytest.mark.needs_root
def test_a_commit_keeps_what_the_parents_tars_say(open_rootless, tmp_path):
    with open_rootless() as store:
        base = register(store, BASE)
        middle = register(store, MIDDLE, base)
        untouched = store.create_rw_layer("untouched", middle.chain_id)
        assert untouched.changes() == []
        rw = store.create_rw_layer("box", middle.chain_id, init=lambda path: None)
        with rw.mounted() as path:
            change(path)
        reported = {str(one) for one in rw.changes()}
        assert "A /new" in reported
        assert not {one for one in reported if one[2:] in ("/", "/null", "/etc/left")}
        with rw.tar_stream() as stream:
            committed = store.register(stream, middle.chain_id)
        tar = export(committed)
        with committed.tar_stream_from("") as stream:
            whole = stream.read()
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert {f"/{member.name}" for member in archive} == {one[2:] for one in reported}
    # Only root can create these files with their owners and devices, to compare them.
    os.seteuid(0)
    os.setegid(0)
    root = tmp_path / "store"
    try:
        with LayerStore.open(root=root, driver="vfs", durability="none") as there:
            for name, layers in ("chain", [BASE, MIDDLE, tar]), ("whole", [whole]):
                top = None
                for one in layers:
                    top = register(there, one, top or "")
                box = there.create_rw_layer(name, top.chain_id)
                with box.mounted() as path:
                    shown = {
                        below: look(os.path.join(path, below))
                        for below in EXPECTED
                        if os.path.lexists(f"{path}/{below}")
                    }
                expected = {below: one for below, one in EXPECTED.items() if below in shown}
                # An ordinary user cannot create the device, so that it cannot be packed.
                assert expected.keys() >= EXPECTED.keys() - {"null"}, name
                assert shown == expected, name
    finally:
        remove_root(root)


def look(path):
    """Return user, group, mode and attributes of a file."""
    status = os.lstat(path)
    return status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode), read_xattrs(os.fsencode(path))


@pytest.mark.needs_root
def test_a_file_with_other_content_is_no_renamed_one(open_rootless):
    """All times are equal, as in a reproducible image; the contents are known from the records of the layer."""
    large = os.urandom(2 << 20)
    names = {b"large": large, b"small": b"1234"}
    base = tars.tar(
        tars.entry(b"before", b"usual"),
        *(tars.entry(name, data, uid=33, gid=34, mtime=7) for name, data in names.items()),
        tars.entry(b"empty", uid=33, gid=34, mtime=7),
    )
    made = {"large-2": large, "other": large[::-1], "small-2": b"1234", "evil": b"4321", "marker": b""}
    with open_rootless() as store:
        rw = store.create_rw_layer("box", register(store, base).chain_id)
        with rw.mounted() as path:
            for name in ("large", "small", "empty"):
                os.unlink(f"{path}/{name}")
            for name, content in made.items():
                Path(path, name).write_bytes(content)
                os.chmod(f"{path}/{name}", 0o644)
                os.utime(f"{path}/{name}", (7, 7))
        with rw.tar_stream() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            found = {member.name: (member.uid, member.gid) for member in tar if member.name in made}
    renamed = {"large-2", "small-2"}
    assert found == {name: (33, 34) if name in renamed else (0, 0) for name in made}


@pytest.mark.needs_root
def test_the_setting_commit_owner_takes_owners_from_the_disk(open_rootless):
    with open_rootless(commit_owner="disk") as store:
        rw = store.create_rw_layer("box", register(store, BASE).chain_id)
        with rw.mounted() as path:
            Path(path, "new").touch()
            os.chmod(f"{path}/home/one", 0o600)
        with rw.tar_stream() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            assert {member.uid for member in tar} == {os.geteuid()}


@pytest.mark.needs_root
def test_files_without_a_parent_layer_belong_to_root_in_the_tar(open_rootless, nothing_left_open):
    with open_rootless() as store:
        rw = store.create_rw_layer("box")
        with rw.mounted() as path:
            Path(path, "large").write_bytes(os.urandom(3 << 20))
            shutil.copytree(path, f"{path}/again")
        rw.tar_stream().close()
        with rw.tar_stream() as stream, tarfile.open(fileobj=stream, mode="r|") as tar:
            assert {(member.name, member.uid, member.gid) for member in tar} == {
                (name, 0, 0) for name in ("large", "again", "again/large")
            }


@pytest.mark.needs_root
@pytest.mark.parametrize("driver", ["vfs", "overlay2"])
def test_owners_outside_of_the_user_namespace_are_kept(driver, tmp_path):
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], check=False).returncode or why_not(driver):
        pytest.skip("no user namespace can be made here, or the driver does not work")
    (tmp_path / "base.tar").write_bytes(BASE)
    script = """
    set -e
    base=$(layerstore register base.tar)
    layerstore rw create box --parent "$base" >&2
    path=$(layerstore rw mount box)
    echo more >>"$path/etc/shadow"
    touch "$path/new"
    layerstore export "$(layerstore rw commit box)"
    layerstore rw umount box >&2
    """
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "LAYERSTORE_ROOT": str(tmp_path / "store"),
        "LAYERSTORE_DRIVER": driver,
    }
    done = subprocess.run(
        [*namespace, "sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        found = {member.name: (member.uid, member.gid) for member in tar}
    assert found == {"etc": (0, 5), "etc/shadow": (0, 42), "new": (0, 0)}
