"""The driver for an ordinary user: the error outside of a user namespace, and all operations inside of one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NOBODY = 65534
PREAMBLE = """
import io, os, sys, tarfile
from pathlib import Path
from layerstore_core.tar.scanner import TarScanner
from layerstore_core import LayerStream
from layerstore_core import DriverContext
from layerstore_core.errors import DriverNotSupported
from layerstore_core.log import driver_logger
from layerstore_overlay import OverlayDriver

context = DriverContext(Path(sys.argv[1]), driver_logger("overlay2", "layerstore_overlay"))
"""
REFUSED = """
for attempt in OverlayDriver.probe, OverlayDriver:
    try:
        attempt(context)
    except DriverNotSupported as error:
        print(error)
"""
AT_WORK = """
def stream(tar):
    file = io.BytesIO(tar)
    return LayerStream(TarScanner(lambda: file.read(65536)))

def layer(*names):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name.rstrip("/"))
            info.type = tarfile.DIRTYPE if name.endswith("/") else tarfile.REGTYPE
            info.mode, info.uid, info.gid = 0o755, 1234, 5678
            tar.addfile(info)
    return stream(out.getvalue())

driver = OverlayDriver(context)
print(dict(driver.status())["userxattr"])
driver.create("base", "", {})
driver.apply_diff("base", "", layer("d/", "d/old", "gone", "kept"))
driver.create("top", "base", {})
driver.apply_diff("top", "base", layer("d/", "d/.wh..wh..opq", "d/new", ".wh.gone"))
driver.create_read_write("rw", "top", "", {})
merged = driver.get("rw", "")
print(sorted(os.listdir(merged)), os.listdir(merged + "/d"))
os.unlink(merged + "/kept")
(Path(merged) / "d" / "mine").write_text("x")
print([str(change) for change in driver.changes("rw", "top")])
with driver.diff("rw", "top") as file:
    tar = file.read()
driver.put("rw")
driver.create("again", "top", {})
driver.apply_diff("again", "top", stream(tar))
driver.create_read_write("look", "again", "", {})
print(sorted(os.listdir(driver.get("look", ""))))
driver.put("look")
for name in "look", "again", "rw", "top", "base":
    driver.remove(name)
print(driver.layer_ids(), os.listdir(context.home / "l"))
"""

GIVEN = (
    AT_WORK.partition("driver.create_read_write")[0]
    + """
from layerstore_core.conformance.groups.engine import mounted_by_engine

target = Path(sys.argv[1]).parent / "target"
target.mkdir()
driver.create_read_write("rw", "top", "", {})
(mount,) = driver.mounts("rw", False)
print(mount.options[:2])
with mounted_by_engine([mount], target) as path:
    print(sorted(os.listdir(path)), os.listdir(path / "d"))
    (path / "kept").unlink()
    (path / "d/mine").write_text("x")
    print([str(change) for change in driver.changes("rw", "top")])
print(driver.seal("rw"))
with mounted_by_engine(driver.mounts("rw", True), target) as path:
    print(sorted(os.listdir(path)), sorted(os.listdir(path / "d")))
"""
)


#: Shows some directories, although ones above them may be closed to others: in a namespace that only the test sees.
OPEN_UP = """
stage=$1; shift
number=0
while [ "$1" != -- ]; do
    mkdir "$stage/$number"
    mount --bind "$1" "$stage/$number"
    shift; number=$((number + 1))
done
shift
number=0
while [ -d "$stage/$number" ]; do
    above=$1
    while [ "$above" != / ]; do
        above=$(dirname "$above")
        if ! setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$above"; then
            mount -t tmpfs -o mode=755 none "$above"
            mkdir -p "$1"
            mount --bind "$stage/$number" "$1"
        fi
    done
    shift; number=$((number + 1))
done
exec "$@"
"""


def run_as_nobody(script, home, *wrapper):
    python = [sys.executable, "-W", "error", "-c", PREAMBLE + script, str(home)]
    return run_command_as_nobody(home, *wrapper, *python)


def run_command_as_nobody(home, *command):
    # Python and its packages may be in directories that only root can enter.
    needed = {os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, Path(__file__).parents[3])}
    apart = sorted(path for path in needed if not any(path.startswith(f"{other}/") for other in needed))
    stage = home.parent.with_name(home.parent.name + "-stage")
    stage.mkdir()
    nobody = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    try:
        done = subprocess.run(
            [
                "unshare",
                "-m",
                "--propagation",
                "private",
                "sh",
                "-ec",
                OPEN_UP,
                "sh",
                stage,
                *apart,
                "--",
                *apart,
                *nobody,
                *command,
            ],
            check=False,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        )
    finally:
        # Only empty directories are removed: after a failure, mounted files must not be deleted.
        for path in [*stage.iterdir(), stage]:
            path.rmdir()
        shutil.rmtree(f"/tmp/layerstore-{NOBODY}", ignore_errors=True)  # where its processes find each other
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def home(place):
    if os.geteuid() != 0 or not shutil.which("setpriv") or not shutil.which("unshare"):
        pytest.skip("becoming an ordinary user needs root, and setpriv and unshare (package util-linux)")
    try:
        os.setxattr(place, "user.test", b"")
    except OSError:
        pytest.skip(
            "the file system holds no attributes in `user.`, which a user namespace needs (tmpfs before Linux 6.6)"
        )
    os.chown(place, NOBODY, NOBODY)
    return place / "overlay2"


def test_the_error_for_an_ordinary_user_has_a_remedy(home):
    lines = run_as_nobody(REFUSED, home)
    assert len(lines) == 2
    for line in lines:
        assert line.startswith(f"user {NOBODY} may not mount an overlay")
        assert "layerstore unshare COMMAND" in line
        assert "enter_user_namespace" in line


def test_a_user_namespace_without_mounts_of_its_own_is_not_enough(home):
    assert "layerstore unshare" in run_as_nobody(REFUSED, home, "unshare", "-Ur")[0]


def test_all_operations_work_in_a_user_namespace(home):
    if int(Path("/proc/sys/user/max_user_namespaces").read_text()) == 0:
        pytest.skip("the kernel makes no user namespaces here: user.max_user_namespaces is 0")
    assert run_as_nobody(AT_WORK, home, "unshare", "-Urm") == [
        "true",
        "['d', 'kept'] ['new']",
        "['C /d', 'A /d/mine', 'D /kept']",
        "['d']",
        "[] []",
    ]


def test_an_engine_in_the_same_user_namespace_mounts_layers(home):
    assert run_as_nobody(GIVEN, home, "unshare", "-Urm") == [
        "true",
        "('index=off', 'userxattr')",
        "['d', 'kept'] ['new']",
        "['C /d', 'A /d/mine', 'D /kept']",
        "True",
        "['d'] ['mine', 'new']",
    ]


THE_COMMAND_LINE = """
layerstore() { "$PYTHON" -m layerstore_core --root "$HOME/root" --driver overlay2 "$@"; }
mkdir "$HOME/tree"
echo text > "$HOME/tree/file"
tar -C "$HOME/tree" -cf "$HOME/layer.tar" --owner=1234 --group=5678 file
chain=$(layerstore register "$HOME/layer.tar")
layerstore rw create work --parent "$chain" > "$HOME/log"
path=$(layerstore rw mount work)
ls "$path"
echo more > "$path/new"
rm "$path/file"
layerstore rw changes work
layerstore rw umount work > "$HOME/log"
commit=$(layerstore rw commit work)
layerstore export "$chain" -o "$HOME/exported.tar" > "$HOME/log"
cmp "$HOME/layer.tar" "$HOME/exported.tar" && echo exact
layerstore export "$commit" | tar -t
"""


OUTSIDE = """
layerstore() { "$PYTHON" -m layerstore_core --root "$HOME/root" --driver overlay2 "$@"; }
chain=$(layerstore ls --json | "$PYTHON" -c 'import json, sys; print(json.load(sys.stdin)["layers"][0]["chain_id"])')
layerstore ls > "$HOME/log" && echo listed
layerstore show "$chain" > "$HOME/log" && echo shown
layerstore images > "$HOME/log" && echo images
layerstore info > "$HOME/log" && echo informed
layerstore check > "$HOME/log" && echo checked
layerstore check --full > "$HOME/log" && echo checked in full
layerstore rw ls | grep -o '^work'
layerstore export "$chain" -o "$HOME/outside.tar" > "$HOME/log"
cmp "$HOME/layer.tar" "$HOME/outside.tar" && echo exact
layerstore rw mount work 2>&1 && exit 3
layerstore register "$HOME/other.tar" > "$HOME/log" && echo registered
layerstore rw commit work > "$HOME/log" && echo committed
exit 0
"""


def test_layers_made_in_a_user_namespace_are_used_outside(home):
    """Commands enter a namespace by themselves; a mount that is to last is refused."""
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    setting = f"PYTHON={sys.executable} HOME={home}; export PYTHON HOME; set -e"
    run_command_as_nobody(home, "unshare", "-Urm", "sh", "-c", setting + THE_COMMAND_LINE)
    shutil.copy(home / "tree" / "file", home / "other")
    subprocess.run(["tar", "-C", home, "-cf", home / "other.tar", "other"], check=True)
    (home / "other.tar").chmod(0o644)
    lines = run_command_as_nobody(home, "sh", "-c", setting + OUTSIDE)
    assert lines[:8] == ["listed", "shown", "images", "informed", "checked", "checked in full", "work", "exact"]
    assert "layerstore unshare" in lines[8]
    assert lines[9:] == ["registered", "committed"]


def test_the_command_line_works_in_a_user_namespace(home):
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    setting = f"PYTHON={sys.executable} HOME={home}; export PYTHON HOME; set -e"
    lines = run_command_as_nobody(home, "unshare", "-Urm", "sh", "-c", setting + THE_COMMAND_LINE)
    assert lines == ["file", "D /file", "A /new", "exact", ".wh.file", "new"]
