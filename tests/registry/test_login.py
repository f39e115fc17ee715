"""`login` and Docker, podman and skopeo: each finds what another one has kept, with a real registry."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from layerstore_core.registry import Registry, RegistryDenied
from layerstore_core.registry.credentials import Credentials, credentials_for, erase_credentials, store_credentials
from tests.registry.conftest import USERS
from tests.registry.keychain import Keychain
from tests.registry.servers import RegistryServer, program_missing
from tests.registry.surroundings import Places, own_places

ADA = Credentials(username="ada", password=USERS["ada"])
#: How each program logs in, with the password on standard input, and where it then keeps it.
LOGINS = {
    "podman": (["podman", "login", "--tls-verify=false"], "runtime/containers/auth.json"),
    "skopeo": (["skopeo", "login", "--tls-verify=false"], "runtime/containers/auth.json"),
    "buildah": (["buildah", "login", "--tls-verify=false"], "runtime/containers/auth.json"),
    "docker": (["docker", "login"], "home/.docker/config.json"),
}


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    places = own_places(tmp_path / "places", monkeypatch)
    places.home.parent.joinpath("runtime").mkdir(mode=0o700)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-daemon")
    return places


def ask(*words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    if reason := program_missing(words[0]):
        pytest.skip(reason)
    return subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("program", LOGINS)
def test_what_another_program_has_kept_is_found_and_removed(
    places: Places, basic_registry: RegistryServer, program: str
) -> None:
    words, where = LOGINS[program]
    done = ask(*words, "-u", "ada", "--password-stdin", basic_registry.host, stdin=USERS["ada"])
    assert done.returncode == 0, done.stderr
    found = credentials_for(basic_registry.host, "app")
    assert found == ADA
    path = places.home.parent / where
    assert found is not None
    assert found.source == str(path)
    with Registry(basic_registry.host, settings={}) as registry:
        registry.ping()
    # A new login replaces it there, and the other program finds that.
    assert store_credentials(basic_registry.host, Credentials(username="bob", password="other")) == str(path)
    assert user_of(program, basic_registry.host) == "bob"
    assert erase_credentials(basic_registry.host) == [str(path)]
    assert user_of(program, basic_registry.host) is None
    with pytest.raises(RegistryDenied), Registry(basic_registry.host, settings={}) as registry:
        registry.ping()


def user_of(program: str, host: str) -> str | None:
    """Return the user by whose name a program would ask a registry."""
    if program == "docker":  # it has no such command
        program = "skopeo"
    done = ask(program, "login", "--get-login", host)
    return done.stdout.strip() or None


def test_what_we_keep_is_used_by_skopeo_and_podman(basic_registry: RegistryServer) -> None:
    store_credentials(basic_registry.host, ADA)
    for program in ("skopeo", "podman"):
        assert user_of(program, basic_registry.host) == "ada"
    listing = ["skopeo", "list-tags", "--tls-verify=false", f"docker://{basic_registry.host}/none"]
    # The repository does not exist, and this user may know it; nobody else gets so far.
    assert "404 (Not Found)" in ask(*listing).stderr
    erase_credentials(basic_registry.host)
    assert "authentication required" in ask(*listing).stderr


def test_docker_logs_out_of_what_we_keep(basic_registry: RegistryServer) -> None:
    store_credentials(basic_registry.host, ADA)
    assert ask("docker", "logout", basic_registry.host).returncode == 0
    assert credentials_for(basic_registry.host) is None


def test_docker_hub_s_credentials_are_those_of_docker_and_skopeo(places: Places) -> None:
    store_credentials("docker.io", ADA)
    for name in ("docker.io", "docker.io/library/debian"):
        assert user_of("skopeo", name) == "ada"
    assert ask("docker", "logout").returncode == 0
    assert credentials_for("docker.io", "library/debian") is None


def test_a_credential_helper_that_docker_uses(
    places: Places, basic_registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keychain = Keychain(places, monkeypatch)
    keychain.configure({"credsStore": "test"})
    host = basic_registry.host
    done = ask("docker", "login", "-u", "ada", "--password-stdin", host, stdin=USERS["ada"])
    assert done.returncode == 0, done.stderr
    assert list(keychain.kept) == [host]
    assert credentials_for(host) == ADA
    store_credentials(host, Credentials(username="bob", password="other"))
    assert keychain.kept[host]["Username"] == "bob"
    assert ask("docker", "logout", host).returncode == 0
    assert (keychain.kept, credentials_for(host)) == ({}, None)


def test_a_credential_helper_that_podman_uses(
    places: Places, basic_registry: RegistryServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keychain = Keychain(places, monkeypatch)
    host = basic_registry.host
    path = places.home.parent / "runtime/containers/auth.json"
    path.parent.mkdir()
    path.write_text(json.dumps({"credHelpers": {host: "test"}}))
    store_credentials(host, ADA)
    assert keychain.kept[host]["Secret"] == USERS["ada"]
    for program in ("podman", "skopeo"):
        assert user_of(program, host) == "ada"
    assert erase_credentials(host) == [f"docker-credential-test (named in {path})"]
    assert user_of("podman", host) is None
