"""Credentials: where they are found, in which order, and how they are kept and removed."""

from __future__ import annotations

import base64
import itertools
import json
import os
import shutil
import stat
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from layerstore_core import ConfigError
from layerstore_core.registry.credentials import (
    Credentials,
    credential_files,
    credentials_for,
    erase_all_credentials,
    erase_credentials,
    hosts_with_credentials,
    store_credentials,
)
from layerstore_core.registry.login import auth_file
from tests.registry.servers import program_missing
from tests.registry.surroundings import Places, own_places

HOST = "registry.example.com"
HUB_KEY = "https://index.docker.io/v1/"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    monkeypatch.setattr(auth_file, "_warned", set())
    return own_places(tmp_path, monkeypatch)


@pytest.fixture
def docker(places: Places) -> Path:
    """Docker's file, which does not exist yet."""
    return places.home / ".docker" / "config.json"


def basic(username: str, password: str = "word") -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def write(path: Path, document: Any, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    path.chmod(mode)
    return path


def user(host: str, repository: str = "") -> str | None:
    found = credentials_for(host, repository)
    return found.username if found else None


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


class TestFinding:
    def test_the_files_in_their_order(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        """From the last on, each is put before those there are."""
        assert user(HOST) is None
        files = credential_files()
        assert files == [
            places.home.parent / "runtime/containers/auth.json",
            places.home / ".config/containers/auth.json",
            places.home / ".docker/config.json",
        ]
        for number, path in enumerate(reversed(files)):
            write(path, {"auths": {HOST: basic(f"user{number}")}})
            found = credentials_for(HOST)
            assert found is not None
            assert (found.username, found.password, found.source) == (f"user{number}", "word", str(path))
        named = write(places.etc / "named.json", {"auths": {"other.example.com": basic("named")}})
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(named))
        assert (user("other.example.com"), user(HOST)) == ("named", None)

    def test_the_directories_of_variables(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CONFIG_HOME", str(places.etc / "xdg"))
        monkeypatch.setenv("DOCKER_CONFIG", str(places.etc / "docker"))
        monkeypatch.delenv("XDG_RUNTIME_DIR")
        assert credential_files() == [
            Path(f"/run/containers/{os.geteuid()}/auth.json"),
            places.etc / "xdg/containers/auth.json",
            places.etc / "docker/config.json",
        ]

    def test_a_named_file_has_to_be_there(self, places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("REGISTRY_AUTH_FILE", str(places.etc / "missing.json"))
        with pytest.raises(ConfigError, match=r"missing.json: there is no such file, which REGISTRY_AUTH_FILE names"):
            credentials_for(HOST)
        assert store_credentials(HOST, Credentials(username="a", password="b")) == str(places.etc / "missing.json")
        assert user(HOST) == "a"

    def test_a_password_may_have_colons(self, docker: Path) -> None:
        write(docker, {"auths": {HOST: basic("ada", "a:b:€\0\0")}})
        found = credentials_for(HOST)
        assert found is not None
        assert (found.username, found.password) == ("ada", "a:b:€")

    def test_an_identity_token(self, docker: Path) -> None:
        write(docker, {"auths": {HOST: {**basic("ada", ""), "identitytoken": "a.token"}}})
        found = credentials_for(HOST)
        assert found is not None
        assert (found.username, found.password, found.identity_token) == ("ada", "", "a.token")
        assert "a.token" not in repr(found)

    def test_name_and_password_in_clear(self, docker: Path) -> None:
        write(docker, {"auths": {HOST: {"username": "ada", "password": "pw"}}})
        assert credentials_for(HOST) == Credentials(username="ada", password="pw")

    def test_secrets_are_in_no_repr(self) -> None:
        assert "word" not in repr(Credentials(username="ada", password="word", identity_token="word"))

    @pytest.mark.parametrize("text", ["", "{}", '{"auths": null}', '{"auths": {"registry.example.com": {}}}'])
    def test_files_without_credentials(self, docker: Path, text: str) -> None:
        write(docker, text)
        assert credentials_for(HOST) is None

    @pytest.mark.parametrize("key", ["docker.io", "index.docker.io", HUB_KEY, "https://registry-1.docker.io"])
    @pytest.mark.parametrize("host", ["docker.io", "index.docker.io", "registry-1.docker.io"])
    def test_docker_hub_by_each_of_its_names(self, docker: Path, key: str, host: str) -> None:
        write(docker, {"auths": {key: basic("ada")}})
        assert user(host, "library/debian") == "ada"

    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("{", r"it is not JSON: .*\(at line 1, column 2\)"),
            ("[]", "it is not a JSON object"),
            ("\xff", "it is not JSON"),
            ('{"auths": []}', "'auths' is not an object"),
            ('{"auths": {"registry.example.com": 3}}', "'auths' is not an object"),
            ('{"auths": {"registry.example.com": {"auth": 3}}}', "has a value that is not a text"),
            ('{"auths": {"registry.example.com": {"auth": "secret!"}}}', "is not base64 of USER:PASSWORD"),
            ('{"auths": {"registry.example.com": {"auth": "c2VjcmV0"}}}', "is not base64 of USER:PASSWORD"),
            ('{"auths": {"registry.example.com": {"auth": "/////w=="}}}', "is not base64 of USER:PASSWORD"),
            ('{"credHelpers": 3}', "'credHelpers' is not an object"),
            ('{"credsStore": 3}', "'credsStore' is not a name"),
            ("[" * 100_000, "nested too deeply"),
        ],
    )
    def test_a_damaged_file(self, docker: Path, text: str, said: str) -> None:
        write(docker, text)
        with pytest.raises(ConfigError, match=rf"^{docker}: .*{said}.*remove it and log in again") as caught:
            credentials_for(HOST)
        assert "secret" not in str(caught.value)
        if "is not base64" not in said and "not a text" not in said:  # another entry may be damaged
            with pytest.raises(ConfigError):
                store_credentials(HOST, Credentials(username="a", password="b"))
            assert docker.read_text() == text

    def test_all_users_may_read_it(self, docker: Path, said: list[Any]) -> None:
        write(docker, {"auths": {HOST: basic("ada")}}, 0o644)
        assert [user(HOST), user(HOST), user("other.example.com")] == ["ada", "ada", None]
        assert [one["message"] for one in said] == [
            f"all users may read the credentials in {docker}; 'chmod 600' changes that"
        ]
        docker.chmod(0o640)
        assert user(HOST) == "ada"


#: Entries of a file, by keys.
KEYS = [HOST, f"{HOST}/org", f"{HOST}/org/app", "other.example.com:5000", f"https://{HOST}:1/v2/", "docker.io/library"]
NAMES = [
    HOST,
    f"{HOST}/org",
    f"{HOST}/organ/app",
    f"{HOST}/org/app",
    f"{HOST}/org/app/more",
    f"{HOST}/org/other",
    f"{HOST}:1/app",
    "other.example.com:5000/x",
    "other.example.com/x",
    "docker.io/library/debian",
    "docker.io/other/app",
]


@pytest.mark.parametrize("without", [None, *KEYS[:3]])
def test_the_same_users_as_skopeo_finds(places: Places, without: str | None) -> None:
    if reason := program_missing("skopeo"):
        pytest.skip(reason)
    entries = {key: basic(f"user{number}") for number, key in enumerate(KEYS) if key != without}
    write(credential_files()[0], {"auths": dict(itertools.islice(entries.items(), 0, None, 2))})
    write(credential_files()[2], {"auths": dict(itertools.islice(entries.items(), 1, None, 2))})
    for name in NAMES:
        done = subprocess.run(
            ["skopeo", "login", "--get-login", name], capture_output=True, text=True, timeout=60, check=False
        )
        host, _, repository = name.partition("/")
        assert user(host, repository) == (done.stdout.strip() or None), name


class TestKeeping:
    def test_in_docker_s_file_which_others_cannot_read(self, docker: Path) -> None:
        previous = os.umask(0)
        try:
            assert store_credentials(HOST, Credentials(username="ada", password="a:b")) == str(docker)
        finally:
            os.umask(previous)
        assert json.loads(docker.read_text()) == {"auths": {HOST: basic("ada", "a:b")}}
        assert (mode(docker), mode(docker.parent)) == (0o600, 0o700)
        assert os.listdir(docker.parent) == ["config.json"]
        assert user(HOST) == "ada"

    def test_all_else_in_the_file_stays(self, docker: Path) -> None:
        before = {
            "HttpHeaders": {"x": "y"},
            "auths": {"other.example.com": {**basic("bob"), "email": "e"}, HOST: basic("old"), f"{HOST}/org": {}},
            "unknown": [1, None],
        }
        write(docker, before, 0o644)
        store_credentials(HOST, Credentials(username="ada", identity_token="tok"))
        after = json.loads(docker.read_text())
        assert after["auths"].pop(HOST) == {**basic("ada", ""), "identitytoken": "tok"}
        del before["auths"][HOST]  # type: ignore[attr-defined]
        assert after == before
        assert mode(docker) == 0o600

    def test_where_there_is_an_entry_already(self, docker: Path) -> None:
        second = write(credential_files()[1], {"auths": {HOST: basic("old")}})
        assert store_credentials(HOST, Credentials(username="new", password="x")) == str(second)
        assert user(HOST) == "new"
        assert not docker.exists()

    @pytest.mark.parametrize(("file", "key"), [("docker", HUB_KEY), ("podman", "docker.io")], ids=["docker", "podman"])
    def test_docker_hub_has_the_key_that_the_program_looks_for(self, docker: Path, file: str, key: str) -> None:
        path = docker
        if file == "podman":
            path = write(credential_files()[0], {"auths": {"docker.io": basic("old"), HUB_KEY: basic("old")}})
        store_credentials("docker.io", Credentials(username="ada", password="x"))
        assert json.loads(path.read_text()) == {"auths": {key: basic("ada", "x")}}

    def test_a_link_stays_and_its_target_is_replaced(self, docker: Path, places: Places) -> None:
        target = write(places.etc / "kept" / "real.json", {"x": 1})
        docker.parent.mkdir()
        docker.symlink_to(target)
        store_credentials(HOST, Credentials(username="ada", password="x"))
        assert docker.is_symlink()
        assert json.loads(target.read_text()) == {"x": 1, "auths": {HOST: basic("ada", "x")}}

    def test_what_a_killed_process_left_is_replaced(self, docker: Path) -> None:
        left = write(docker.parent / ".config.json.layerstore", "half", 0o644)
        store_credentials(HOST, Credentials(username="ada", password="x"))
        assert not left.exists()
        assert (mode(docker), user(HOST)) == (0o600, "ada")

    def test_a_link_in_place_of_the_new_file_is_not_followed(self, docker: Path, places: Places) -> None:
        victim = write(places.etc / "victim", "kept")
        docker.parent.mkdir()
        (docker.parent / ".config.json.layerstore").symlink_to(victim)
        store_credentials(HOST, Credentials(username="ada", password="x"))
        assert victim.read_text() == "kept"
        assert user(HOST) == "ada"

    def test_a_file_that_cannot_be_replaced_is_unchanged(self, docker: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        write(docker, {"auths": {HOST: basic("old")}})

        def fails(*paths: object) -> None:
            raise OSError(28, "No space left on device", str(paths[0]))

        monkeypatch.setattr(os, "replace", fails)
        with pytest.raises(OSError, match="No space") as caught:
            store_credentials(HOST, Credentials(username="new", password="x"))
        assert caught.value.filename == str(docker)
        monkeypatch.undo()
        assert os.listdir(docker.parent) == ["config.json"]

    @pytest.mark.needs_root
    def test_root_leaves_a_file_to_its_owner(self, docker: Path) -> None:
        write(docker, {})
        os.chown(docker, 1234, 1235)
        store_credentials(HOST, Credentials(username="ada", password="x"))
        assert (docker.stat().st_uid, docker.stat().st_gid, mode(docker)) == (1234, 1235, 0o600)

    def test_at_once_from_many_sides(self, docker: Path) -> None:
        hosts = [f"r{number}.example.com" for number in range(16)]
        threads = [
            threading.Thread(target=store_credentials, args=(host, Credentials(username=host, password="x")))
            for host in hosts
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert {user(host) for host in hosts} == set(hosts)
        assert os.listdir(docker.parent) == ["config.json"]

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    @given(
        st.text(st.characters(exclude_characters=":", exclude_categories=["Cs"])),
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1),
        st.booleans(),
    )
    def test_what_is_kept_is_found(self, docker: Path, username: str, secret: str, is_token: bool) -> None:
        kept = (
            Credentials(username=username, identity_token=secret)
            if is_token
            else Credentials(username=username, password=secret)
        )
        store_credentials(HOST, kept)
        assert credentials_for(HOST, "any/app") == kept


class TestRemoving:
    def test_wherever_they_are(self, docker: Path) -> None:
        first = write(credential_files()[0], {"auths": {HOST: basic("a"), f"https://{HOST}/v1/": basic("b")}, "x": 1})
        write(docker, {"auths": {HOST: basic("c"), f"{HOST}/org": basic("d"), "other.example.com": basic("e")}})
        assert erase_credentials(HOST) == [str(first), str(docker)]
        assert (user(HOST), user(HOST, "org/app"), user("other.example.com")) == (None, "d", "e")
        assert json.loads(first.read_text()) == {"auths": {}, "x": 1}
        assert (mode(first), mode(docker)) == (0o600, 0o600)
        assert erase_credentials(HOST) == []

    def test_without_any_no_file_is_made(self, docker: Path) -> None:
        assert erase_credentials(HOST) == erase_all_credentials() == []
        assert not docker.parent.exists()

    def test_all(self, docker: Path) -> None:
        write(docker, {"auths": {HOST: basic("a"), f"{HOST}/org": basic("b")}, "x": 1})
        assert hosts_with_credentials() == [HOST]
        assert erase_all_credentials() == [str(docker)]
        assert json.loads(docker.read_text()) == {"auths": {}, "x": 1}
        assert hosts_with_credentials() == []


def test_a_file_that_cannot_be_read(docker: Path) -> None:
    docker.mkdir(parents=True)
    with pytest.raises(ConfigError, match=f"{docker}: the credentials in it cannot be read: Is a directory"):
        credentials_for(HOST)


def test_a_file_of_a_user_without_a_home(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert credential_files() == [places.home.parent / "runtime/containers/auth.json"]
    assert shutil.which("sh")
    assert user(HOST) is None
