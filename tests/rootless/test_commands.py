"""Commands of ordinary users on overlay2, from a plain shell."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.ordinary_users import COUNT, USERS, OrdinaryUsers

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel]

#: A layer with files of other owners, one of which only its owner may read; and one that hides a directory.
LAYERS = """
mkdir -p base/d upper/d
echo text >base/d/file; echo secret >base/secret; chmod 600 base/secret
tar -C base -cf base.tar --owner=1234 --group=5678 --mtime=@1600000000 d secret
touch upper/d/.wh..wh..opq upper/d/own
tar -C upper -cf upper.tar --owner=0 --group=0 --mtime=@1600000000 d
export LAYERSTORE_DRIVER=overlay2
base=$(layerstore register base.tar)
upper=$(layerstore register upper.tar --parent "$base")
layerstore rw create work --parent "$upper" >log
"""


def namespaces_made(users: OrdinaryUsers, script: str) -> list[str]:
    """Return the lines of a script in which `layerstore` says where it has entered a namespace."""
    code, out, err = users.try_('layerstore() { command layerstore -vv "$@" >/dev/null; }\n' + script)
    assert code == 0, out + err
    return [line for line in err.splitlines() if " entered a " in line]


def test_a_store_is_used_from_a_plain_shell(users: OrdinaryUsers) -> None:
    lines = users.run(
        LAYERS
        + """
        layerstore unshare sh -ec '
            tree=$(layerstore rw mount work)
            ls -n "$tree" | tail -1; ls "$tree/d"
            echo more >>"$tree/secret"; touch "$tree/new"; chown 33:34 "$tree/new"
            layerstore rw umount work'
        layerstore rw changes work
        commit=$(layerstore rw commit work)
        layerstore export "$commit" | tar -tv --numeric-owner | awk '{print $2, $NF}'
        layerstore export "$base" -o again.tar; cmp base.tar again.tar
        layerstore check --full
        layerstore cat "$base" secret
        layerstore cp "$base:/secret" copy; cat copy; stat -c %u copy
        layerstore rw rm work >log
        layerstore rm "$commit" "$upper" >log
        layerstore rm "$base" >log
        ls "$HOME/.local/share/layerstore/overlay2"
        """
    )
    assert lines[0].split()[:4] == ["-rw-------", "1", "1234", "5678"]
    assert lines[1:] == [
        "own",
        "A /new",
        "C /secret",
        "33/34 new",
        "1234/5678 secret",
        "secret",
        "secret",
        str(USERS["first"][0]),
        "l",
    ]


def test_namespaces_are_entered_where_they_are_needed(users: OrdinaryUsers) -> None:
    read = """
    base=$(command layerstore ls --json | grep -o 'sha256:[0-9a-f]*' | head -1)
    for words in ls images 'rw ls' check "show $base"; do layerstore $words; done
    """
    users.run(LAYERS)
    assert namespaces_made(users, read) == []
    assert (
        len(
            namespaces_made(
                users, "layerstore export \"$(command layerstore ls --json | grep -o 'sha256:[0-9a-f]*' | head -1)\""
            )
        )
        == 1
    )
    code, out, err = users.try_("layerstore --json rw mount work")
    assert (code, out) == (1, ""), "the mount would end with the command"
    assert '"UserNamespaceError"' in err
    assert "layerstore unshare" in err
    vfs = """
    export LAYERSTORE_ROOT=other LAYERSTORE_DRIVER=vfs
    layerstore register upper.tar; layerstore rw create work
    unset LAYERSTORE_DRIVER
    layerstore rw mount work; layerstore rw commit work
    """
    assert namespaces_made(users, vfs) == []


def test_an_image_is_mounted_as_long_as_the_namespace_lasts(users: OrdinaryUsers) -> None:
    script = """
    echo text >file; chmod 600 file; tar -cf layer.tar --owner=1234 --group=5678 file
    layerstore import layer.tar -t app:1 >log
    layerstore unshare sh -ec 'ls -n "$(layerstore mount app:1)" | tail -1'
    layerstore umount app:1 >log
    layerstore rmi app:1 >log
    layerstore mount app:1
    """
    code, out, err = users.try_(script)
    assert (code, out.split()[2:4]) == (1, ["1234", "5678"])
    assert "layerstore unshare" in err


def test_what_a_killed_command_has_left_is_removed_by_the_next_that_writes(users: OrdinaryUsers) -> None:
    """Directories of other owners cannot be removed outside of a namespace: a command that only reads leaves them."""
    script = """
    mkdir base; for number in $(seq 200); do mkdir -m 700 base/$number; echo x >base/$number/file; done
    tar -cf base.tar --owner=1234 --group=5678 base
    mkfifo pipe
    layerstore --driver overlay2 register - <pipe >log 2>&1 &
    exec 3>pipe  # the rest of the tar never comes
    head -c 150000 base.tar >&3
    until [ "$(find .local -path '*/diff/base/*' 2>/dev/null | wc -l)" -gt 20 ]; do sleep 0.05; done
    kill -9 $!; wait $! 2>/dev/null || true
    layerstore ls
    ls -d .local/share/layerstore/overlay2/*/diff/base
    layerstore gc
    ls .local/share/layerstore/overlay2
    """
    code, out, err = users.try_(script)
    assert code == 0, err
    lines = out.splitlines()
    assert lines[0].endswith("/diff/base"), "ls has removed it"
    assert lines[1:] == ["l"]
    assert "ERROR" not in err


def test_a_new_store_gets_the_driver_that_works_in_a_namespace(users: OrdinaryUsers) -> None:
    script = """
    layerstore rw create a >log
    layerstore info --json | grep '"driver":' | head -1
    layerstore drivers | grep ^overlay2
    """
    driver, overlay = users.run(script)
    assert '"overlay2"' in driver
    assert overlay.endswith("yes, in a user namespace")


def test_processes_of_a_user_share_mounts(users: OrdinaryUsers) -> None:
    """Without that, two processes would mount one upper directory twice, which overlayfs forbids."""
    lines = users.run(
        LAYERS
        + """
        mkfifo go
        layerstore unshare sh -ec 'layerstore rw mount work >path; read -r line <go; cat "$(cat path)/other"' >out &
        while ! [ -s path ]; do sleep 0.05; done
        layerstore unshare sh -ec 'echo "from the other" >"$(cat path)/other"; grep -c "$(cat path)" /proc/self/mounts'
        [ -e "$(cat path)/other" ] || echo unseen outside
        echo go >go; wait; cat out
        layerstore unshare sh -c 'grep -c "$(cat path)" /proc/self/mounts' || echo ended
        layerstore rw changes work
        """
    )
    assert lines == ["1", "unseen outside", "from the other", "0", "ended", "A /other"]


def test_processes_that_start_at_once_share_a_namespace(users: OrdinaryUsers) -> None:
    lines = users.run(
        """
        for number in 1 2 3 4; do
            layerstore unshare sh -c 'readlink /proc/self/ns/user /proc/self/ns/mnt
                until [ -e go ]; do sleep 0.02; done' >"out$number" &
        done
        while [ "$(cat out? | wc -l)" -lt 8 ]; do sleep 0.05; done
        touch go
        wait
        cat out?
        """
    )
    assert len(lines) == 8
    assert len(set(lines)) == 2


def test_two_users(users: OrdinaryUsers) -> None:
    users.run(LAYERS + "chmod 755 .local .local/share; chmod -R a+rX .local/share/layerstore 2>/dev/null || true")
    root = users.home() / ".local/share/layerstore"
    assert len(users.run(f"layerstore --root {root} ls", name="second")) == 3
    code, out, err = users.try_(f"layerstore --root {root} rw commit work", name="second")
    assert (code, out) == (1, "")
    assert "layerstore: " in err
    assert "ermission denied" in err
    users.run(LAYERS, name="second")
    for name, (_, first) in USERS.items():
        (secret,) = users.home(name).glob(".local/share/layerstore/overlay2/*/diff/secret")
        assert secret.stat().st_uid == first + 1234 - 1, "each user has IDs of its own"


def test_root_reads_the_store_of_a_user_and_changes_no_layer(users: OrdinaryUsers) -> None:
    """The marks are `user.overlay.*`: as `trusted.overlay.*` they would be overlooked, and owners would be wrong."""
    users.run(LAYERS)
    root = users.home() / ".local/share/layerstore"

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-m", "layerstore_core", "--root", str(root), *words]
        return subprocess.run(program, capture_output=True, text=True, check=False, cwd="/")

    assert run("check", "--full").stdout == ""
    assert run("ls").stdout.count("\n") == 3
    assert run("rw", "changes", "work").stdout == ""
    for words in ("rw", "commit", "work"), ("register", str(users.home() / "base.tar")):
        done = run(*words)
        assert done.returncode == 1, words
        assert f"Run the command as user {USERS['first'][0]}" in done.stderr
    assert {path.lstat().st_uid for path in root.rglob("*")}.isdisjoint({0})


class TestUnshare:
    """`layerstore unshare`."""

    def test_codes_and_signals_are_those_of_the_program(self, users: OrdinaryUsers) -> None:
        script = """
        try() { "$@" || echo $?; }
        try layerstore unshare sh -c 'exit 7'
        try layerstore unshare sh -c 'kill -TERM $$'
        try layerstore unshare no-such-program
        try layerstore unshare /etc/passwd
        layerstore unshare sh -c '(yes; echo $? >code) | head -1; cat code'
        """
        code, out, err = users.try_(script)
        assert code == 0, err
        assert out.split() == ["7", "143", "127", "126", "y", "141"]
        assert "no-such-program: No such file or directory" in err
        assert "/etc/passwd: Permission denied" in err

    def test_a_signal_reaches_the_program(self, users: OrdinaryUsers) -> None:
        script = """
        layerstore unshare sh -c 'trap "echo stopped; exit 3" USR1; echo $$ >pid; while :; do sleep 0.05; done' &
        while ! [ -s pid ]; do sleep 0.05; done
        [ "$(cat pid)" = $! ] && echo same process
        kill -USR1 $!
        wait $! || echo $?
        """
        assert users.run(script) == ["same process", "stopped", "3"]

    def test_surroundings_stay(self, users: OrdinaryUsers) -> None:
        script = """
        mkdir here; cd here
        layerstore --root ~/elsewhere --driver vfs unshare sh -c 'pwd; echo $HOME $MINE; layerstore info --json' >out
        grep -v '"' out; grep -o '"root": "[^"]*"' out; grep -o '"driver": "[^"]*"' out
        layerstore unshare layerstore info | grep ^Root
        SHELL=/bin/echo layerstore unshare
        layerstore unshare --json cat /proc/self/uid_map | tr -s ' '
        layerstore unshare layerstore unshare id -u
        """
        home = users.home()
        uid, first = USERS["first"]
        lines = [line for line in users.run(script, MINE="mine") if line not in ("{", "}", "  },", "  }")]
        assert lines[:2] == [f"{home}/here", f"{home} mine"]
        assert f'"root": "{home}/elsewhere"' in lines
        assert '"driver": "vfs"' in lines
        assert f"Root:            {home}/.local/share/layerstore" in " ".join(lines)
        assert lines[-4:] == ["", f" 0 {uid} 1", f" 1 {first} {COUNT}", "0"]

    def test_root_needs_no_namespace(self) -> None:
        program = [sys.executable, "-m", "layerstore_core", "unshare", "readlink", "/proc/self/ns/user"]
        done = subprocess.run(program, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == os.readlink("/proc/self/ns/user")


def test_a_namespace_of_another_program_is_used(users: OrdinaryUsers) -> None:
    lines = users.run(
        """
        export LAYERSTORE_DRIVER=overlay2
        tar -cf empty.tar --files-from=/dev/null
        unshare -Urm sh -ec 'layerstore register empty.tar
            layerstore rw create work >log; layerstore rw mount work; layerstore info | grep ^Root' | tail -1
        """
    )
    assert lines == [f"Root:            {users.home()}/.local/share/layerstore"]


def test_a_namespace_without_mounts_of_its_own_gets_them(users: OrdinaryUsers) -> None:
    script = """
    export LAYERSTORE_DRIVER=overlay2
    tar -cf empty.tar --files-from=/dev/null
    unshare -Ur layerstore register empty.tar >log
    unshare -Ur layerstore rw create work >log
    unshare -Ur layerstore unshare sh -c 'ls -d "$(layerstore rw mount work)"' >log
    unshare -Ur layerstore rw mount work
    """
    code, out, err = users.try_(script)
    assert (code, out) == (1, "")
    assert "layerstore unshare" in err
