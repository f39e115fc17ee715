"""The quick program of the tests behaves as the installed one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.quick_program import INSTALLED
from tests.store.layers import BASE

SCRIPT = """
cd "$HERE"
export LAYERSTORE_DURABILITY=none LAYERSTORE_DRIVER=vfs
umask 027
layerstore --root store register - <"$TAR" | tee names
layerstore --root store export "$(cut -d: -f2 names)" >>exported
layerstore --root store export "$(cut -d: -f2 names)" -o /dev/fd/7 7>>exported
layerstore --root store export "$(cut -d: -f2 names)" -o third
stat -c %a third
layerstore --root store --json ls
layerstore no-such-command && exit 9
echo "$?"
layerstore --root store show none && exit 9
echo "$?"
layerstore --root store export "$(cut -d: -f2 names)" | head -c 1 | wc -c
echo "${PIPESTATUS[0]}"
exit 3
"""


def outcome(directory: Path, program: Path) -> tuple[int, bytes, bytes, bytes]:
    """Run the script with the program of a directory. Return the exit code, and all that was written."""
    directory.mkdir()
    (directory / "base.tar").write_bytes(BASE)
    environment = {
        "HERE": str(directory),
        "HOME": str(directory),
        "PATH": f"{program}:{os.environ['PATH']}",
        "TAR": str(directory / "base.tar"),
    }
    done = subprocess.run(["bash", "-c", SCRIPT], env=environment, capture_output=True, check=False)
    errors = done.stderr.replace(bytes(directory), b"$HERE")
    return done.returncode, done.stdout, errors, (directory / "exported").read_bytes()


def test_the_quick_program_does_the_same_as_the_installed_one(quick_program: Path, tmp_path: Path) -> None:
    found = outcome(tmp_path / "quick", quick_program)
    assert found == outcome(tmp_path / "installed", INSTALLED.parent)
    assert (found[0], found[3]) == (3, BASE * 2)


@pytest.mark.needs_root
def test_the_quick_program_of_another_user_is_the_installed_one(quick_program: Path, tmp_path: Path) -> None:
    """The server's forks would be root's."""
    if (quick_program / "layerstore").is_symlink():
        pytest.skip("the installed program always runs")
    code = f"""
import os
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
program = compile({(quick_program / "layerstore").read_text()!r}, "program", "exec")
os.execv = lambda path, words: print(path, words[1:])
exec(program)
"""
    done = subprocess.run([sys.executable, "-c", code, "ls"], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[:1] == [f"{INSTALLED} ['ls']"], done
