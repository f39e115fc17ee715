"""Credentials and files of an ordinary user are the same inside of the user's namespace."""

from __future__ import annotations

import pytest

from tests.ordinary_users import OrdinaryUsers

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_kernel]

SCRIPT = """
mkdir -p .config/docker && echo '{"registry-mirrors": ["https://own.example.com"]}' > .config/docker/daemon.json
cat > show.py <<'END'
from layerstore_core import endpoints_of
from layerstore_core.registry.credentials import credential_files
print(*credential_files())
print(endpoints_of("docker.io", {})[0].host)
END
"$PYTHON" show.py
layerstore unshare "$PYTHON" show.py
unshare --user --map-root-user "$PYTHON" show.py
"""


def test_the_same_files_inside_and_outside(users: OrdinaryUsers) -> None:
    lines = users.run(SCRIPT)
    home = users.home()
    files = f"/run/containers/61001/auth.json {home}/.config/containers/auth.json {home}/.docker/config.json"
    assert lines == [files, "own.example.com"] * 3


def test_a_home_directory_that_the_user_may_not_enter(users: OrdinaryUsers) -> None:
    """As in a container that is run as another user than the one who HOME belongs to."""
    script = """
    mkdir -p closed/.docker closed/.config/containers
    echo damaged > closed/.docker/config.json
    echo damaged > closed/.config/containers/registries.conf
    chmod 0 closed
    cat > show.py <<'END'
from layerstore_core import credentials_for, endpoints_of
print(credentials_for("docker.io"), *(one.host for one in endpoints_of("docker.io", {})))
END
    HOME="$PWD/closed" "$PYTHON" show.py
    HOME="$PWD/closed" layerstore --root store info | grep -c Root:
    chmod 700 closed
    chmod 0 closed/.docker/config.json
    HOME="$PWD/closed" "$PYTHON" show.py 2>&1 | tail -1
    """
    shown, count, refused = users.run(script)
    assert (shown, count) == ("None registry-1.docker.io", "1")
    assert "closed/.docker/config.json: the credentials in it cannot be read: Permission denied" in refused
