"""Programs that keep credentials: `docker-credential-NAME`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from layerstore_core import ConfigError
from layerstore_core.registry.credentials import (
    Credentials,
    credentials_for,
    erase_all_credentials,
    erase_credentials,
    store_credentials,
)
from layerstore_core.registry.login import helpers
from tests.registry.keychain import Keychain
from tests.registry.surroundings import own_places

HOST = "registry.example.com"
HUB_KEY = "https://index.docker.io/v1/"


@pytest.fixture
def keychain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keychain:
    return Keychain(own_places(tmp_path, monkeypatch), monkeypatch)


def test_of_one_host(keychain: Keychain) -> None:
    keychain.configure({"credHelpers": {HOST: "test"}, "auths": {HOST: {"auth": "bm90OnVzZWQ="}}, "x": 1})
    assert credentials_for(HOST) is None  # what is in the file does not count
    where = store_credentials(HOST, Credentials(username="ada", password="a:b"))
    assert where == f"docker-credential-test (named in {keychain.file})"
    assert keychain.kept == {HOST: {"ServerURL": HOST, "Username": "ada", "Secret": "a:b"}}
    assert json.loads(keychain.file.read_text()) == {"credHelpers": {HOST: "test"}, "auths": {HOST: {}}, "x": 1}
    found = credentials_for(HOST, "org/app")
    assert found == Credentials(username="ada", password="a:b")
    assert found is not None
    assert found.source == where
    calls = keychain.calls
    assert credentials_for("other.example.com") is None
    assert keychain.calls == calls
    assert erase_credentials(HOST) == [where]
    assert (keychain.kept, json.loads(keychain.file.read_text())["auths"]) == ({}, {})
    assert erase_credentials(HOST) == []


def test_of_all_hosts(keychain: Keychain) -> None:
    keychain.configure({"credsStore": "test", "auths": {"old.example.com": {"auth": "YWRhOnB3"}}})
    store_credentials(HOST, Credentials(username="", identity_token="tok"))
    store_credentials("docker.io", Credentials(username="hub", password="pw"))
    assert keychain.kept[HOST] == {"ServerURL": HOST, "Username": "<token>", "Secret": "tok"}
    assert list(keychain.kept) == [HOST, HUB_KEY]
    assert json.loads(keychain.file.read_text())["auths"] == {
        "old.example.com": {"auth": "YWRhOnB3"},
        HOST: {},
        HUB_KEY: {},
    }
    assert credentials_for(HOST) == Credentials(username="", identity_token="tok")
    assert credentials_for("docker.io", "library/debian") == Credentials(username="hub", password="pw")
    assert credentials_for("old.example.com") == Credentials(username="ada", password="pw")
    assert erase_all_credentials() == [f"docker-credential-test (named in {keychain.file})", str(keychain.file)]
    assert keychain.kept == {}


def test_a_repository_s_own_entry_goes_before_the_program(keychain: Keychain) -> None:
    keychain.configure({"credsStore": "test", "auths": {f"{HOST}/org": {"auth": "YWRhOnB3"}}})
    store_credentials(HOST, Credentials(username="bob", password="x"))
    assert credentials_for(HOST, "org/app") == Credentials(username="ada", password="pw")
    assert credentials_for(HOST, "app") == Credentials(username="bob", password="x")


def test_a_missing_program(keychain: Keychain) -> None:
    keychain.configure({"credsStore": "absent"})
    with pytest.raises(ConfigError, match=rf"{keychain.file} names the credential helper 'absent', but.*install it"):
        credentials_for(HOST)


@pytest.mark.parametrize("name", ["../test", "a b", "test;true", ""])
def test_a_name_that_is_none(keychain: Keychain, name: str) -> None:
    keychain.configure({"credHelpers": {HOST: name}})
    if not name:
        assert credentials_for(HOST) is None
        return
    with pytest.raises(ConfigError, match="cannot be the name of a credential helper"):
        credentials_for(HOST)
    assert keychain.calls == []


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (
            "echo 'no such collection' >&2; exit 3",
            "it has failed at 'get' with exit code 3: no such collection; run it",
        ),
        ("echo 'Secret: hunter2'; exit 1", "it has failed at 'get' with exit code 1; run it"),
        ('echo \'{"Secret":"hunter2"\'; exit 1', "with exit code 1; run it"),
        ("printf 'bad \\033[31mhunter1'; exit 1", r"with exit code 1: bad \\x1b\[31mhunter1; run it"),
        ("echo hunter2", "its answer is not a JSON object"),
        ("echo '[\"hunter2\"]'", "its answer is not a JSON object"),
        ('echo \'{"Username": 3, "Secret": "hunter2"}\'', "its answer has no Username and Secret"),
        ('echo \'{"Secret": "hunter2"}\'', "its answer has no Username and Secret"),
        ("kill -9 $$", "with exit code -9"),
    ],
)
def test_a_program_that_fails(keychain: Keychain, script: str, said: str) -> None:
    keychain.program("bad", f"#!/bin/sh\n{script}\n")
    keychain.configure({"credHelpers": {HOST: "bad"}})
    with pytest.raises(ConfigError, match=said) as caught:
        credentials_for(HOST)
    assert "hunter2" not in str(caught.value)
    assert f"docker-credential-bad (named in {keychain.file})" in str(caught.value)


def test_a_program_that_repeats_the_password_in_its_error(keychain: Keychain) -> None:
    keychain.program("bad", '#!/bin/sh\necho "cannot keep $(cat | grep -o hunter2)"\nexit 1\n')
    keychain.configure({"credHelpers": {HOST: "bad"}})
    before = keychain.file.read_text()
    with pytest.raises(ConfigError, match="it has failed at 'store'") as caught:
        store_credentials(HOST, Credentials(username="ada", password="hunter2"))
    assert "hunter2" not in str(caught.value)
    assert keychain.file.read_text() == before


def test_a_program_that_cannot_be_run(keychain: Keychain) -> None:
    keychain.program("bad", "#!/nonexistent/interpreter\n")
    keychain.configure({"credHelpers": {HOST: "bad"}})
    with pytest.raises(ConfigError, match="it cannot be run: No such file"):
        credentials_for(HOST)


def test_a_program_that_never_answers(keychain: Keychain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(helpers, "_TIMEOUT", 0.2)
    keychain.program("bad", "#!/bin/sh\nexec sleep 60\n")
    keychain.configure({"credHelpers": {HOST: "bad"}})
    with pytest.raises(ConfigError, match="it has not answered 'get' for 0 seconds"):
        credentials_for(HOST)


def test_an_empty_secret_is_none(keychain: Keychain) -> None:
    keychain.program("empty", '#!/bin/sh\necho \'{"Username": "", "Secret": ""}\'\n')
    keychain.configure({"credHelpers": {HOST: "empty"}})
    assert credentials_for(HOST) is None
