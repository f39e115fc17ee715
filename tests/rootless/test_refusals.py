"""Machines on which no user namespace can be entered, or only one with a single user."""

from __future__ import annotations

import pytest

from tests.ordinary_users import USERS, OrdinaryUsers

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel]

#: As root: a namespace around the user in which no other can be made, without changing the machine.
NO_NAMESPACES = """
rm -f ready end; mkfifo ready end
unshare --user sh -c 'exec >/dev/null 2>&1; echo >ready; read -r line <end' &
read -r line <ready
for kind in uid gid; do echo '0 0 4294967295' >/proc/$!/${kind}_map; done
enter="nsenter --user=/proc/$!/ns/user --preserve-credentials"
$enter sh -c 'echo 0 >/proc/sys/user/max_user_namespaces'
"""
REGISTER = """
tar -cf empty.tar --files-from=/dev/null
layerstore --driver overlay2 register empty.tar
"""


def refused(users: OrdinaryUsers, script: str = REGISTER, **more: str) -> str:
    code, out, err = users.try_(script, **more)
    assert (code, out) == (1, ""), err
    assert "Traceback" not in err
    assert len(err.splitlines()) <= 2
    assert not list(users.home().glob(".local/share/layerstore/*")), "a store was begun"
    return err


def test_the_kernel_makes_no_namespaces(users: OrdinaryUsers) -> None:
    inside: dict[str, str] = {"before": NO_NAMESPACES, "through": "$enter"}
    error = refused(users, **inside)
    assert "may not mount an overlay" in error
    assert "no user namespace was entered" in error
    assert "user.max_user_namespaces is 0" in error
    assert "user.max_user_namespaces is 0" in refused(users, "layerstore unshare true", **inside)
    lines = users.run(
        "layerstore rw create a >log; layerstore info --json | grep '\"driver\":' | head -1; layerstore drivers",
        **inside,
    )
    assert '"vfs"' in lines[0], "another driver works"
    assert any(line.startswith("overlay2") and "user.max_user_namespaces is 0" in line for line in lines)


def test_newuidmap_fails(users: OrdinaryUsers) -> None:
    (users.directory / "newuidmap").write_text("#!/bin/sh\necho 'newuidmap: uid range not allowed' >&2; exit 1\n")
    (users.directory / "newuidmap").chmod(0o755)
    before = 'mount --bind newuidmap "$(command -v newuidmap)"'
    error = refused(users, before=before)
    assert "newuidmap fails: newuidmap: uid range not allowed" in error
    assert "/etc/subuid" in error


def test_without_newuidmap_the_namespace_has_one_user(users: OrdinaryUsers) -> None:
    lines = users.run(
        "layerstore unshare cat /proc/self/uid_map | tr -s ' '",
        before='mount --bind /dev/null "$(command -v newuidmap)"',
    )
    assert lines == [f" 0 {USERS['first'][0]} 1"]


def test_without_subordinate_ids_the_namespace_has_one_user(users: OrdinaryUsers) -> None:
    users.give_ids("second")
    script = "layerstore unshare sh -c 'cat /proc/self/uid_map /proc/self/gid_map' | tr -s ' '"
    assert users.run(script) == [f" 0 {USERS['first'][0]} 1"] * 2


def test_files_of_other_owners_are_no_damage(users: OrdinaryUsers) -> None:
    """A store that was made with subordinate IDs is used without them."""
    users.run(
        """
        echo secret >secret; chmod 600 secret
        tar -cf layer.tar --owner=1234 --group=5 secret
        layerstore --driver overlay2 register layer.tar
        """
    )
    hide = 'mount --bind /dev/null "$(command -v newuidmap)"'
    for command in ("check --full", "cat $(layerstore ls --json | grep -o 'sha256:[0-9a-f]*' | head -1) secret"):
        code, out, err = users.try_(f"layerstore {command}", before=hide)
        assert (code, out) == (1, ""), command
        assert "/secret: Permission denied" in err
        assert "Traceback" not in err
        assert "this user namespace has one user" in err
    users.run("layerstore check --full")


def test_where_processes_find_each_other(users: OrdinaryUsers) -> None:
    """Without /run/user it is a directory in /tmp, which must not be another user's, or open to others."""
    uid, _ = USERS["first"]
    script = f"layerstore unshare true; stat -c '%a %u' /tmp/layerstore-{uid}; rm -r /tmp/layerstore-{uid}"
    assert users.run(script, NO_RUNTIME="yes") == [f"700 {uid}"]
    for trap in (f"mkdir -m 755 /tmp/layerstore-{uid}", f"ln -s /etc /tmp/layerstore-{uid}"):
        error = refused(users, "layerstore unshare true", before=trap, NO_RUNTIME="yes")
        users.run("true", before=f"rm -rf /tmp/layerstore-{uid}")
        assert f"/tmp/layerstore-{uid}, where the processes of user {uid} find each other" in error


def test_a_program_with_threads_cannot_enter(users: OrdinaryUsers) -> None:
    (users.home() / "program.py").write_text(
        """
import os, threading
from layerstore_core import LayerStore, UserNamespaceError, enter_user_namespace
from layerstore_core.base.threads import submit

end = threading.Event()
thread = threading.Thread(target=end.wait)
thread.start()
print(enter_user_namespace(driver="vfs"))
try:
    enter_user_namespace(driver="overlay2")
except UserNamespaceError as error:
    print(error)
end.set()
thread.join()
submit(int).result()  # leaves a thread that has nothing to do
os.chdir("here")
print(enter_user_namespace(driver="overlay2"), os.getuid(), os.getcwd())
print(enter_user_namespace(driver="overlay2"))
with LayerStore.open(driver="overlay2") as store:
    with store.create_rw_layer("work", store.register("empty.tar").chain_id) as rw, rw.mounted() as path:
        print(os.listdir(path))
"""
    )
    lines = users.run('mkdir here; tar -cf here/empty.tar --files-from=/dev/null; "$PYTHON" program.py')
    assert lines[0] == "False"
    assert "this process has 2 threads" in lines[1]
    assert lines[2:] == [f"True 0 {users.home()}/here", "False", "[]"]
