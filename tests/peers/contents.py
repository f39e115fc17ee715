"""A root file system that containers run on, and that has all types of files and metadata; and changes to it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from tests.docker.contents import CAPABILITY, MTIME

_APPLETS = ("cat", "env", "id", "ls", "mkdir", "mv", "rm", "sh", "sleep", "stat", "touch", "true")


def make_root(root: Path) -> Path:
    """Make a root file system in a new directory. All of its times are fixed."""
    for name in ("bin", "etc", "tmp", "home/app", "var/old", "var/opaque/sub", "srv"):
        (root / name).mkdir(parents=True)
    busybox = shutil.which("busybox")
    assert busybox is not None
    shutil.copy(busybox, root / "bin/busybox")
    for applet in _APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    files = {
        "etc/passwd": "root:x:0:0:root:/root:/bin/sh\napp:x:1234:2345::/home/app:/bin/sh\n",
        "etc/group": "root:x:0:\nweb:x:2345:\n",
        "etc/shadow": "root:*\n",
        "bin/ping": "ping" * 3000,
        "bin/su": "su",
        "var/old/one": "1",
        "var/old/two": "2",
        "var/opaque/hidden": "h",
        "var/opaque/sub/x": "x",
        "srv/read": "read\n",
        "srv/" + "l" * 150: "a long name",
        "srv/na\u00efve \udcff": "not UTF-8",
        "home/app/own": "own",
    }
    for name, text in files.items():
        (root / name).write_text(text)
    (root / "etc/shadow").chmod(0o640)
    os.chown(root / "etc/shadow", 0, 42)
    (root / "bin/ping").chmod(0o755)
    os.setxattr(root / "bin/ping", "security.capability", CAPABILITY)
    (root / "bin/su").chmod(0o4755)
    (root / "bin/sudo").hardlink_to(root / "bin/su")
    (root / "home/su").hardlink_to(root / "bin/su")
    (root / "tmp").chmod(0o1777)
    for name in ("home/app", "home/app/own"):
        os.chown(root / name, 1234, 2345)
    os.mkfifo(root / "srv/fifo", 0o600)
    os.mknod(root / "srv/null", 0o20666, os.makedev(1, 3))
    (root / "srv/relative").symlink_to("../../etc/passwd")
    os.lchown(root / "srv/relative", 7, 8)
    (root / "srv/absolute").symlink_to("/etc/group")
    for where, _, names in os.walk(os.fsencode(root), topdown=False):
        for name in names:
            path = os.path.join(where, name)
            os.utime(path, ns=(0, MTIME * 10**9 + len(path)), follow_symlinks=False)
        os.utime(where, ns=(0, MTIME * 10**9))
    return root


def change(root: Path) -> None:
    """Change a mounted tree: whiteouts, an opaque directory, hard links, a directory that becomes a file."""
    shutil.rmtree(root / "var/old")
    (root / "var/old").write_text("now a file")
    shutil.rmtree(root / "var/opaque")
    (root / "var/opaque").mkdir()
    (root / "var/opaque/fresh").write_text("fresh")
    (root / "bin/sudo").unlink()
    (root / "etc/shadow").write_text("root:!:longer\n")
    (root / "etc/group2").hardlink_to(root / "etc/group")
    os.chown(root / "home", 5, 6)
    (root / "srv/fifo").unlink()
    (root / "tmp/new").mkdir(mode=0o700)
    os.mknod(root / "tmp/new/device", 0o60600, os.makedev(7, 300))
