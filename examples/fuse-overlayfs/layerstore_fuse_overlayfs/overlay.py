"""Mounts by the program fuse-overlayfs, and whether it can make them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from layerstore_core import DriverNotSupported, MountFailed
from layerstore_core.sdk import ServedMount

PROGRAM = "fuse-overlayfs"
#: What fuse-overlayfs 1.10 needs in order not to lose changes. Each was found by the conformance kit.
#: writeback: the kernel wrote changes late, after a time was set, which was lost.
#: fast_ino: without it, a file that has replaced one of several hard links showed the old content when mounted again.
_OPTIONS = "writeback=0,fast_ino=1"


def mount(served: ServedMount) -> None:
    """Mount, unless it is mounted already, and let the kernel know the owner of the root.

    Until it has asked for that, it takes root for the owner, and refuses the user to change mode and owner of `/`.

    Raises:
        MountFailed, OSError: it cannot be mounted.
    """
    served.mount()
    os.stat(served.target)


def mount_of(lower: Sequence[Path], upper: Path | None, place: Path) -> ServedMount:
    """Return the mount of some directories at `place/merged`.

    Args:
        lower: the lower directories, the uppermost first.
        upper: the directory that changes go to, with `place/work` as its working directory; `None` mounts the lower
            directories read-only.
        place: the directory with the mount point `merged`, and with the program's note.
    """
    options = [_OPTIONS, f"lowerdir={':'.join(map(_escaped, lower))}"]
    if upper is not None:
        options += [f"upperdir={_escaped(upper)}", f"workdir={_escaped(place / 'work')}"]
    target = place / "merged"
    return ServedMount(target, [PROGRAM, "-f", "-o", ",".join(options), str(target)], place / "pid")


def require_mounts(directory: Path) -> None:
    """Make a trial mount in a directory, change it, and leave nothing behind.

    Raises:
        DriverNotSupported: it cannot be made; the message says why, and what to do.
    """
    if ":" in str(directory):
        raise DriverNotSupported(f"{PROGRAM} cannot use directories with a colon in their path, such as {directory}")
    if shutil.which(PROGRAM) is None:
        raise DriverNotSupported(f"{PROGRAM} is not installed; install the package {PROGRAM}")
    if not os.access("/dev/fuse", os.R_OK | os.W_OK):
        raise DriverNotSupported(
            "/dev/fuse cannot be opened: load the kernel's module fuse, and give users access (mode 0666)"
        )
    if os.geteuid() != 0 and shutil.which("fusermount3") is None:
        raise DriverNotSupported("an ordinary user mounts by fusermount3, which is not installed; install fuse3")
    with tempfile.TemporaryDirectory(dir=directory) as name:
        place = Path(name)
        for part in ("lower", "upper", "work", "merged"):
            (place / part).mkdir()
        (place / "lower/file").touch()
        trial = mount_of([place / "lower"], place / "upper", place)
        try:
            try:
                mount(trial)
                (place / "merged/file").unlink()
            finally:
                trial.unmount()
        except (OSError, MountFailed) as error:
            raise DriverNotSupported(f"{PROGRAM} cannot mount in {directory}: {error}") from error


def _escaped(path: Path) -> str:
    r"""Return a path as a part of FUSE's options, which are separated by commas; `\` escapes."""
    return str(path).replace("\\", "\\\\").replace(",", "\\,")
