"""Images with all content that Docker and layerstore must store alike."""

from __future__ import annotations

import struct

from tests import tars
from tests.images.archives import ImageSpec

MTIME = 1_700_000_000
#: VFS_CAP_REVISION_2 with cap_net_raw, effective: `struct vfs_cap_data`.
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 13, 0, 0, 0)


def xattr(name: bytes, value: bytes) -> bytes:
    return tars.pax([(b"SCHILY.xattr." + name, value)])


BASE = tars.tar(
    tars.directory(b"etc/", mtime=MTIME),
    tars.entry(b"etc/hosts", b"127.0.0.1 localhost\n", mtime=MTIME),
    tars.entry(b"etc/shadow", b"root:*\n", mode=0o640, gid=42, mtime=MTIME),
    tars.directory(b"bin/", mtime=MTIME),
    xattr(b"security.capability", CAPABILITY) + tars.entry(b"bin/ping", b"\x7fELF" * 5000, mode=0o755, mtime=MTIME),
    tars.entry(b"bin/su", b"su", mode=0o4755, mtime=MTIME),
    tars.hard_link(b"bin/sudo", b"bin/su", mode=0o4755, mtime=MTIME),
    tars.symlink(b"bin/sh", b"ping", mtime=MTIME),
    tars.directory(b"tmp/", mode=0o1777, mtime=MTIME),
    tars.directory(b"old/", mtime=MTIME),
    tars.entry(b"old/one", b"1", mtime=MTIME),
    tars.directory(b"old/sub/", mtime=MTIME),
    tars.entry(b"old/sub/two", b"2", mtime=MTIME),
    tars.directory(b"opaque/", mtime=MTIME),
    tars.entry(b"opaque/hidden", b"h", mtime=MTIME),
    tars.entry(b"na\xefve \xff", b"not UTF-8", mtime=MTIME),
    tars.entry(b"run", typeflag=b"6", mtime=MTIME),
    tars.header(b"null", typeflag=b"3", device=(1, 3), mode=0o666, mtime=MTIME),
    tars.pax([(b"mtime", b"1700000000.123456789")]) + tars.entry(b"nanoseconds", b"n", mtime=MTIME),
)
MIDDLE = tars.tar(
    tars.directory(b"etc/", mtime=MTIME + 1),
    tars.entry(b"etc/hosts", b"::1 localhost\n", mtime=MTIME + 1),
    tars.entry(b".wh.old", mtime=MTIME + 1),
    tars.directory(b"opaque/", mtime=MTIME + 1),
    tars.entry(b"opaque/.wh..wh..opq", mtime=MTIME + 1),
    tars.entry(b"opaque/shown", b"s", mtime=MTIME + 1),
    xattr(b"trusted.note", b"for root only") + tars.entry(b"noted", b"n", mtime=MTIME + 1),
    tars.hard_link(b"linked", b"noted", mtime=MTIME + 1),
)
TOP = tars.tar(tars.entry(b"bin/.wh.sudo", mtime=MTIME + 2), tars.entry(b"top", b"t" * 70_000, mtime=MTIME + 2))
#: Two entries of one name, which Docker would refuse.
TWICE = tars.tar(tars.entry(b"twice", b"first", mtime=MTIME), tars.entry(b"./twice", b"second", mtime=MTIME))
DEEP = tuple(tars.tar(tars.entry(b"deep/%d" % n, b"%d" % n, mtime=MTIME)) for n in range(40))

APP = ImageSpec((BASE, MIDDLE, TOP), ("app:1", "example.com/team/app:latest"))
SIBLING = ImageSpec((BASE, MIDDLE), ("sibling:2",))
DEEP_CHAIN = ImageSpec((BASE, *DEEP), ("deep:40",))
SPARE = ImageSpec((BASE, TOP), ("spare:1",))
REPEATED = ImageSpec((BASE, TWICE), ("repeated:1",))
IMAGES = (APP, SIBLING, DEEP_CHAIN, SPARE, REPEATED)
