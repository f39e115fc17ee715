"""Difficult chains of layers. `CHAINS` has the entries of each chain's tars by its name, the base first."""

from __future__ import annotations

import struct
from collections.abc import Callable

from tests import tars

T = 1_600_000_000
#: `cap_net_raw+ep` and `cap_chown+p`, as the kernel stores them (`linux/capability.h`, revision 2).
CAP_NET_RAW = struct.pack("<5I", 0x02000001, 1 << 13, 0, 0, 0)
CAP_CHOWN = struct.pack("<5I", 0x02000000, 1, 0, 0, 0)
SPARSE = (b"data" + bytes(1 << 18) + b"more" + bytes(1 << 17), [(0, 4), (4 + (1 << 18), 4)])


def d(name: bytes, **options: object) -> bytes:
    return tars.directory(name, **{"mtime": T, **options})


def f(name: bytes, data: bytes = b"", **options: object) -> bytes:
    return tars.entry(name, data, **{"mtime": T, **options})


def sym(name: bytes, target: bytes, **options: object) -> bytes:
    return tars.symlink(name, target, **{"mtime": T, **options})


def link(name: bytes, target: bytes, **options: object) -> bytes:
    return tars.hard_link(name, target, **{"mtime": T, **options})


def node(name: bytes, kind: bytes, device: tuple[int, int] = (0, 0), **options: object) -> bytes:
    """Return a character device (`3`), a block device (`4`) or a fifo (`6`)."""
    return tars.entry(name, typeflag=kind, device=device, **{"mtime": T, **options})


def with_records(entry: bytes, *records: tuple[bytes, bytes]) -> bytes:
    return tars.pax(records) + entry


def attributes(entry: bytes, **values: bytes) -> bytes:
    """Return an entry with extended attributes. The first underscore of each name becomes a dot."""
    return with_records(
        entry, *((b"SCHILY.xattr." + key.replace("_", ".", 1).encode(), value) for key, value in values.items())
    )


def _whiteouts() -> list[list[bytes]]:
    return [
        [d(b"d"), d(b"d/e", mode=0o700), f(b"d/e/f", b"old"), f(b"d/keep"), f(b"top"), sym(b"sym", b"d")],
        [f(b".wh.top"), f(b"d/e/.wh.f"), f(b".wh.sym"), f(b".wh.never")],
        [f(b"top", b"again"), d(b"sym"), f(b"sym/.wh.never"), f(b"d/.wh.e")],
        [d(b"d/e", mode=0o711), f(b"d/e/g", b"new"), f(b".wh.sym")],
        [f(b".wh.d"), f(b"d", b"a file now")],
    ]


def _opaque() -> list[list[bytes]]:
    return [
        [d(b"d"), f(b"d/old"), d(b"d/sub"), f(b"d/sub/old"), d(b"other"), f(b"other/old")],
        [d(b"d"), f(b"d/new"), d(b"d/sub"), f(b"d/sub/new"), f(b"d/.wh..wh..opq")],
        [f(b"other/.wh..wh..opq"), f(b"other/implied/new"), f(b"d/sub/.wh..wh..opq")],
        [f(b"d/sub/third"), d(b"other/implied", mode=0o700), f(b"other/implied/.wh..wh..opq")],
        [f(b".wh..wh..opq"), f(b"last"), d(b"d", mode=0o1777)],
        [f(b"d/after")],
        [f(b"early"), f(b"implied/in/.wh..wh..opq"), f(b"implied/.wh..wh..opq")],
    ]


def _types() -> list[list[bytes]]:
    return [
        [d(b"a"), f(b"a/in"), f(b"b"), sym(b"c", b"a"), node(b"e", b"6"), node(b"g", b"3", (1, 3))],
        [f(b"a", b"was a directory"), d(b"b"), f(b"b/in"), d(b"c"), f(b"c/in"), sym(b"e", b"g"), d(b"g"), f(b"g/in")],
        [sym(b"a", b"b"), sym(b"b", b"nowhere"), f(b"c", b"was a directory"), d(b"e"), node(b"g", b"6")],
        [d(b"a"), f(b"a/third"), d(b"b"), node(b"c", b"4", (7, 300)), f(b"e/in"), f(b"g")],
        [f(b".wh.a"), d(b"a"), f(b".wh.b"), d(b"b"), f(b"b/fifth")],
    ]


def _renamed() -> list[list[bytes]]:
    return [
        [d(b"old", mode=0o750), d(b"old/deep"), f(b"old/deep/f", b"1"), f(b"old/g", b"2")],
        [f(b".wh.old"), d(b"new", mode=0o750), d(b"new/deep"), f(b"new/deep/f", b"1"), f(b"new/g", b"2")],
        [f(b".wh.new"), d(b"old"), f(b"old/g", b"3")],
    ]


def _hard_links() -> list[list[bytes]]:
    return [
        [d(b"d"), f(b"d/one", b"content", uid=5, mode=0o640), f(b"group", b"g"), link(b"group-2", b"group")],
        [link(b"two", b"d/one", uid=5, mode=0o640), link(b"d/three", b"two", uid=5, mode=0o640)],
        [f(b"two", b"alone now"), f(b".wh.group")],
        [link(b"d/four", b"d/three", uid=5, mode=0o640), link(b"d/one", b"d/three", uid=5, mode=0o640), f(b"group")],
        [f(b"d/.wh.three"), sym(b"sym", b"group"), link(b"sym-2", b"sym", mode=0o777), node(b"fifo", b"6")],
        [link(b"fifo-2", b"fifo", mode=0o644), link(b"sym-3", b"sym-2", mode=0o777)],
    ]


def _implied() -> list[list[bytes]]:
    return [
        [attributes(d(b"p", mode=0o1770, uid=7, gid=8), user_note=b"kept"), d(b"p/q", mode=0o711, gid=9), f(b"p/q/f")],
        [f(b"p/q/g", b"without its directories")],
        [f(b"p/new/deeper/h"), f(b"p/q/.wh.f")],
        [f(b"p/new/deeper/i"), d(b"p/new", mode=0o700, mtime=T + 1)],
    ]


def _modes() -> list[list[bytes]]:
    return [
        [d(b"d"), f(b"d/f", b"same"), f(b"s", mode=0o4755), sym(b"l", b"d")],
        [d(b"d", mode=0o700), f(b"d/f", b"same", mode=0o600)],
        [d(b"d", mode=0o700, uid=70_000), f(b"s", mode=0o2711, gid=3), sym(b"l", b"d", uid=12)],
        [d(b"d", mode=0o000), f(b"d/f", b"same", mode=0o000, uid=3_000_000_000)],
    ]


def _attributes() -> list[list[bytes]]:
    return [
        [
            attributes(f(b"f", b"x"), user_one=b"1", security_capability=CAP_NET_RAW),
            attributes(d(b"d"), user_d=b"\0\xff"),
        ],
        [attributes(f(b"f", b"x"), user_two=b"2" * 2000, security_capability=CAP_CHOWN), f(b"d/in")],
        [f(b"f", b"x"), attributes(d(b"d"), trusted_t=b"t")],
        [attributes(link(b"g", b"f"), user_link=b"l"), attributes(f(b"h"), user_one=b"")],
    ]


def _names() -> list[list[bytes]]:
    long, raw = b"n" * 255, b"\xff\xfe raw"
    return [
        [d(raw), f(raw + b"/\x80"), f(b"new\nline"), d(long), f(long + b"/" + long, b"deep"), f(b"back\\slash")],
        [f(raw + b"/.wh.\x80"), f(b".wh.new\nline"), f(long + b"/" + raw)],
        [with_records(f(b"p", b"x"), (b"path", "\u00fcml\u00e4ut".encode())), link(b"short", long + b"/" + long)],
        [sym(b"far", b"t" * 1000), d(b"/".join([b"s" * 200] * 12)), f(b" "), f(b"...")],
    ]


def _sparse() -> list[list[bytes]]:
    return [
        [tars.sparse_old_gnu(b"gnu", *SPARSE, mtime=T), f(b"x")],
        [tars.sparse_pax(b"1.0", *SPARSE, "1.0", mtime=T), tars.sparse_pax(b"0.1", *SPARSE, "0.1", mtime=T)],
        [tars.sparse_pax(b"gnu", *SPARSE, "0.0", mtime=T), link(b"1.0-2", b"1.0")],
    ]


def _devices() -> list[list[bytes]]:
    return [
        [
            node(b"null", b"3", (1, 3), mode=0o666),
            node(b"disk", b"4", (259, 1048575), gid=6),
            node(b"pipe", b"6", uid=1),
        ],
        [node(b"null", b"3", (1, 5)), node(b"pipe", b"6", mode=0o4755)],
        [f(b".wh.disk"), node(b"disk", b"3", (5, 0)), f(b"null")],
    ]


def _access_lists() -> list[list[bytes]]:
    """A directory's default access list is for files that users create in it, not for the files of a tar."""
    entries = [(1, 7), (2, 5), (4, 5), (16, 5), (32, 4)]
    value = struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", *one, 9 if one[0] == 2 else (1 << 32) - 1) for one in entries
    )
    new = [
        d(b"d/new"),
        f(b"d/f"),
        sym(b"d/l", b"f"),
        node(b"d/p", b"6"),
        f(b"d/implied/f"),
        d(b"d/s", mode=0o2750),
        f(b"d/s/f"),
    ]
    return [
        [
            attributes(d(b"d", mode=0o755), system_posix_acl_default=value, system_posix_acl_access=value),
            *new,
            attributes(f(b"a", mode=0o600), system_posix_acl_access=value),
            link(b"b", b"a", mode=0o640),
            attributes(
                f(b"short", mode=0o600), system_posix_acl_access=value[:4] + value[4:12] + value[20:28] + value[36:]
            ),
        ],
        [f(b"d/2"), d(b"d/new"), d(b"d/newer"), f(b"d/implied/2"), f(b"d/also-implied/2"), node(b"d/p2", b"6")],
        [
            attributes(d(b"./"), system_posix_acl_default=value),
            d(b"d"),
            f(b"d/3"),
            f(b"x/y"),
            link(b"z", b"d/f", mode=0o600),
        ],
    ]


def _deleting_devices() -> list[list[bytes]]:
    """Character devices 0:0 delete names with every driver: those of a parent or of the layer itself, if any."""
    zero = b"3", (0, 0)
    return [
        [
            node(b"never", *zero),
            node(b"base/never", *zero),
            f(b"file"),
            d(b"dir"),
            f(b"dir/in"),
            d(b"merged"),
            f(b"merged/f"),
        ],
        [
            node(b"file", *zero, mode=0o600, uid=3),
            node(b"./dir/", *zero),
            node(b"merged/f", *zero),
            sym(b"way", b"merged"),
            f(b"merged/own"),
            node(b"way/own", *zero),
            node(b"back", *zero),
            f(b"back"),
            node(b"below/it/none", *zero),
            node(b".", *zero),
        ],
        [f(b"file/again"), d(b"dir"), node(b"block", b"4", (0, 0))],
    ]


def _times() -> list[list[bytes]]:
    def at(entry: bytes, time: bytes) -> bytes:
        return with_records(entry, (b"mtime", time))

    return [
        [at(f(b"ns"), b"1600000000.123456789"), at(d(b"d"), b"-1.5"), at(f(b"d/old"), b"-1000000000.000000001")],
        [at(d(b"d"), b"1600000001.999999999"), at(sym(b"s", b"ns"), b"1600000002.5"), at(f(b"zero"), b"0")],
        [f(b"d/keeps"), at(node(b"pipe", b"6"), b"1600000003.000000007")],
    ]


def _set_gid() -> list[list[bytes]]:
    return [
        [d(b"shared", mode=0o2775, gid=50), f(b"shared/own", gid=7), d(b"shared/sub", gid=8)],
        [f(b"shared/later", gid=9), d(b"shared/sub2", mode=0o2755), f(b"shared/implied/f", gid=10)],
        [d(b"shared", mode=0o775, gid=50), f(b"shared/last", mode=0o2755)],
    ]


def _links_to_directories() -> list[list[bytes]]:
    return [
        [d(b"usr"), d(b"usr/lib"), f(b"usr/lib/a"), sym(b"lib", b"usr/lib")],
        [f(b"usr/lib/b"), f(b"usr/lib/.wh.a")],
        [f(b".wh.lib"), d(b"lib"), f(b"lib/own")],
        [f(b".wh.usr"), sym(b"usr", b"lib"), sym(b"loop", b"loop")],
    ]


def _twice_in_one_tar() -> list[list[bytes]]:
    return [
        [f(b"x", b"1"), f(b"x", b"2"), d(b"d"), f(b"d/f"), d(b"d", mode=0o700)],
        [f(b".wh.d"), d(b"d"), f(b"d/g"), f(b"x", b"3"), f(b".wh.x")],
        [f(b"y", b"1"), link(b"z", b"y"), f(b"y", b"2"), d(b"d"), f(b"d/.wh.g"), f(b"d/g", b"back")],
        [d(b"d"), f(b".wh.d"), f(b"./z"), f(b"//y", b"cleaned")],
        [d(b"r"), f(b"r/a", b"12345"), f(b"r/b", b"67"), f(b"r", b"8"), f(b"s/in", b"90"), f(b".wh.s")],
    ]


CHAINS: dict[str, Callable[[], list[list[bytes]]]] = {
    "whiteouts": _whiteouts,
    "opaque directories": _opaque,
    "other types": _types,
    "renamed directories": _renamed,
    "hard links": _hard_links,
    "implied directories": _implied,
    "modes and owners alone": _modes,
    "attributes and capabilities": _attributes,
    "names": _names,
    "sparse files": _sparse,
    "devices and fifos": _devices,
    "access lists": _access_lists,
    "devices that delete": _deleting_devices,
    "times": _times,
    "set-group-ID directories": _set_gid,
    "links to directories": _links_to_directories,
    "twice in one tar": _twice_in_one_tar,
}
