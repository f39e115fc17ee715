"""Scripts run as ordinary users with subordinate IDs, who exist only for the test.

Each script runs in mounts of its own. There the files of users (passwd, subuid, …) are the test's, `/run/user` has a
directory for each user, and directories above Python and this checkout can be entered by all. The machine's files stay
as they are.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

#: The users, by name, with the first of their subordinate IDs.
USERS = {"first": (61001, 700_000), "second": (61002, 800_000)}
COUNT = 65_536
CHECKOUT = Path(__file__).parents[1]

#: As root, in mounts of its own: the users' files, and directories that only root can enter.
PREPARE = """
cd "$HERE"
for file in passwd group subuid subgid; do
    [ -e /etc/$file ] || continue
    mount --bind "etc/$file" "/etc/$file"
done
mkdir -p /run/user
mount -t tmpfs -o mode=755 none /run/user
[ -n "$NO_RUNTIME" ] || for uid in $UIDS; do mkdir -m 700 "/run/user/$uid"; chown "$uid:$uid" "/run/user/$uid"; done
number=0
for path in $NEEDED; do
    mkdir -p "stage/$number"
    mount --bind "$path" "stage/$number"
    number=$((number + 1))
done
number=0
for path in $NEEDED; do
    above=$path
    while [ "$above" != / ]; do
        above=$(dirname "$above")
        if ! setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$above"; then
            mount -t tmpfs -o mode=755 none "$above"
            mkdir -p "$path"
            mount --bind "$HERE/stage/$number" "$path"
        fi
    done
    number=$((number + 1))
done
"""
ENTER = 'exec $THROUGH setpriv --reuid="$USER_ID" --regid="$USER_ID" --clear-groups sh -ec "$SCRIPT"'


@dataclass
class OrdinaryUsers:
    """Users of a test, and a directory for each of them.

    Args:
        directory: an empty directory that every user can reach.
        names: the users who have lines in subuid and subgid.
    """

    directory: Path
    names: tuple[str, ...] = tuple(USERS)
    needed: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        etc = self.directory / "etc"
        etc.mkdir()
        for file in ("passwd", "group"):
            extra = "".join(
                f"{name}:x:{uid}:{uid}::{self.home(name)}:/bin/sh\n" if file == "passwd" else f"{name}:x:{uid}:\n"
                for name, (uid, _) in USERS.items()
            )
            (etc / file).write_text(Path("/etc", file).read_text() + extra)
        for name, (uid, _) in USERS.items():
            self.home(name).mkdir()
            os.chown(self.home(name), uid, uid)
        self.give_ids(*self.names)
        paths = {os.path.realpath(path) for path in (sys.base_prefix, sys.prefix, CHECKOUT)}
        self.needed = sorted(path for path in paths if not any(path.startswith(f"{other}/") for other in paths))

    def give_ids(self, *names: str) -> None:
        """Let these users have subordinate IDs, and no others."""
        lines = "".join(f"{name}:{USERS[name][1]}:{COUNT}\n" for name in names)
        for file in ("subuid", "subgid"):
            (self.directory / "etc" / file).write_text(lines)

    def home(self, name: str = "first") -> Path:
        """Return the directory of a user."""
        return self.directory / name

    def environment(self) -> dict[str, str]:
        """Return variables with which scripts find the command `layerstore`, and the test's directory in `HERE`."""
        programs = self.directory / "bin"
        programs.mkdir(exist_ok=True)
        program = programs / "layerstore"
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error -m layerstore_core "$@"\n')
        program.chmod(0o755)
        return {
            "PATH": f"{programs}:{os.environ['PATH']}:/usr/sbin:/sbin",
            "PYTHON": sys.executable,
            "PYTHONDONTWRITEBYTECODE": "1",
            "LAYERSTORE_DURABILITY": "none",
            "HERE": str(self.directory),
        }

    def try_(
        self, script: str, *, name: str = "first", before: str = "", through: str = "", **environment: str
    ) -> tuple[int, str, str]:
        """Run a script as a user, in the user's directory; `layerstore` is a command in it.

        Args:
            script: for sh.
            name: the user.
            before: commands that root runs before.
            through: a program that runs the rest; it may use variables of `before`.
            environment: more variables.

        Returns:
            The exit code, and what was written to standard output and standard error.
        """
        uid, _ = USERS[name]
        given = self.environment() | {
            "HOME": str(self.home(name)),
            "NEEDED": " ".join(self.needed),
            "UIDS": " ".join(str(uid) for uid, _ in USERS.values()),
            "USER_ID": str(uid),
            "SCRIPT": f'cd "$HOME"\n{script}',
            **environment,
        }
        enter = ENTER.replace("$THROUGH", through)
        command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", f"{PREPARE}\n{before}\n{enter}"]
        done = subprocess.run(command, env=given, capture_output=True, text=True, check=False, cwd="/", timeout=120)
        return done.returncode, done.stdout, done.stderr

    def run(self, script: str, *, name: str = "first", **more: str) -> list[str]:
        """Run a script as `try_` does, and return the lines of its output. It must succeed."""
        code, out, err = self.try_(script, name=name, **more)
        assert code == 0, out + err
        return out.splitlines()


@cache
def why_no_users() -> str:
    """Return why no script can be run as another user in a user namespace here. Empty if it can."""
    if os.geteuid():
        return "making users needs the rights of root"
    missing = [name for name in ("unshare", "setpriv", "newuidmap", "newgidmap") if not shutil.which(name)]
    if missing:
        return f"not installed: {', '.join(missing)} (packages util-linux, uidmap)"
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "unshare", "-Urm", "true"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd="/")
    return f"the kernel makes no user namespaces: {done.stderr.strip()}" if done.returncode else ""
