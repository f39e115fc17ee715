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
