"""`login` and `logout`: what is asked, kept, printed and removed."""

from __future__ import annotations

import base64
import json
import os
import pty
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from layerstore_core.registry.credentials import credentials_for
from tests.cli.conftest import Run
from tests.registry.fake_auth import BasicAuth, TokenAuth
from tests.registry.fake_registry import FakeRegistry
from tests.registry.surroundings import Places, own_places

USERS = {"ada": "pass:word"}
PASSWORD = b"pass:word"


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Places:
    return own_places(tmp_path / "places", monkeypatch)


@pytest.fixture
def file(places: Places) -> Path:
    return places.home / ".docker" / "config.json"


@pytest.fixture(params=["basic", "token"])
def registry(request: pytest.FixtureRequest) -> Iterator[FakeRegistry]:
    auth = BasicAuth(USERS) if request.param == "basic" else TokenAuth(USERS, anonymous=())
    with FakeRegistry(auth=auth) as fake:
        yield fake


def test_in_and_out(run: Run, registry: FakeRegistry, file: Path) -> None:
    done = run("login", registry.host, "-u", "ada", "--password-stdin", stdin=PASSWORD + b"\n")
    assert (done.text, done.stderr) == (f"{file}\n", "")
    entry = {"auth": base64.b64encode(b"ada:pass:word").decode()}
    assert json.loads(file.read_text()) == {"auths": {registry.host: entry}}
    found = credentials_for(registry.host)
    assert found is not None
    assert (found.username, found.password) == ("ada", "pass:word")
    assert run("logout", registry.host).text == f"{file}\n"
    assert json.loads(file.read_text()) == {"auths": {}}
    again = run("logout", registry.host)
    assert (again.text, again.stderr) == ("", "")


def test_in_json(run: Run, registry: FakeRegistry, file: Path) -> None:
    done = run("login", registry.host, "--json", "-u", "ada", "--password-stdin", stdin=PASSWORD)
    assert done.json == {"host": registry.host, "username": "ada", "kept_in": str(file)}
    assert run("logout", "--json", registry.host).json == {"host": registry.host, "removed_from": [str(file)]}
    assert run("logout", "--json", "-a").json == {"host": None, "removed_from": []}


def test_a_wrong_password_is_not_kept_nor_shown(run: Run, registry: FakeRegistry, file: Path) -> None:
    arguments = ("login", registry.host, "-u", "ada", "--password-stdin")
    run(*arguments, stdin=PASSWORD)
    before = file.read_text()
    done = run("-vv", "--json", *arguments, stdin=b"hunter2", code=1)
    assert json.loads(done.stderr.splitlines()[-1])["error"]["type"] == "RegistryDenied"
    assert file.read_text() == before
    for secret in ("hunter2", base64.b64encode(b"ada:hunter2").decode()):
        assert secret not in done.stderr + done.text


def test_out_of_all(run: Run, file: Path) -> None:
    with FakeRegistry() as one, FakeRegistry() as other:
        for fake in (one, other):
            run("login", fake.host, "-u", "ada", "--password-stdin", stdin=PASSWORD)
    assert len(json.loads(file.read_text())["auths"]) == 2
    assert run("logout", "--all").text == f"{file}\n"
    assert json.loads(file.read_text()) == {"auths": {}}


def test_nothing_listens(run: Run, file: Path) -> None:
    done = run("login", "127.0.0.1:1", "-u", "ada", "--password-stdin", stdin=PASSWORD, code=1)
    assert "127.0.0.1:1" in done.stderr
    assert not file.exists()


def test_what_is_damaged_is_not_replaced(run: Run, file: Path) -> None:
    file.parent.mkdir()
    file.write_text("{")
    with FakeRegistry() as fake:
        done = run("login", fake.host, "-u", "ada", "--password-stdin", stdin=PASSWORD, code=1)
    assert f"{file}: it is not JSON" in done.stderr
    assert file.read_text() == "{"
    assert f"{file}: it is not JSON" in run("logout", "--all", code=1).stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "said"),
    [
        (["login", "h"], b"", "standard input is not a terminal"),
        (["login", "h", "-u", "ada"], b"word", "standard input is not a terminal"),
        (["login", "h", "--password-stdin"], b"word", "--password-stdin needs --username"),
        (["login", "h", "-u", "ada", "--password-stdin"], b"\n", "the password is empty"),
        (["login", "h", "-u", "ada", "--password-stdin"], b"\xff", "is not UTF-8"),
        (["login", "h", "-u", "ada", "--password-stdin"], b"x" * 70_000, "longer than 64 KiB"),
        (["login", "h", "-u", "a:b", "--password-stdin"], b"word", "cannot have a ':' in it"),
        (["login", "h/path", "-u", "ada", "--password-stdin"], b"word", "'h/path' is not the address of a registry"),
        (["login", "https://h/path", "-u", "ada", "--password-stdin"], b"word", "is not the address of a registry"),
        (["login"], b"", "Missing argument 'HOST'"),
        (["logout"], b"", "give either HOST or --all"),
        (["logout", "h", "-a"], b"", "give either HOST or --all"),
    ],
)
def test_wrong_usage(run: Run, arguments: list[str], stdin: bytes, said: str) -> None:
    done = run(*arguments, stdin=stdin, code=2)
    assert said in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    "url", ["https://index.docker.io/v1/", "registry-1.docker.io", "docker.io", "http://docker.io/"]
)
def test_a_registry_by_its_url(run: Run, file: Path, url: str) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": "YWRhOnB3"}}}))
    assert run("logout", "--json", url).json == {"host": "docker.io", "removed_from": [str(file)]}


def test_names_of_registries_are_completed(run: Run, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.parent.mkdir()
    file.write_text(json.dumps({"auths": {"one.example.com": {"auth": "YWRhOnB3"}, "two.example.com/org": {}}}))
    monkeypatch.setenv("_LAYERSTORE_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "layerstore logout o")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert run(store=False, code=None).text.split() == ["plain,one.example.com"]


def test_on_a_terminal_the_password_is_asked_for_and_not_shown(file: Path) -> None:
    with FakeRegistry(auth=BasicAuth(USERS)) as fake:
        child, terminal = pty.fork()
        if child == 0:
            try:
                os.execv(sys.executable, [sys.executable, "-m", "layerstore_core", "login", fake.host])
            finally:
                os._exit(127)
        try:
            shown = until(terminal, b"Username: ")
            os.write(terminal, b"ada\n")
            shown += until(terminal, b"Password of ada: ")
            os.write(terminal, b"pass:word\n")
            shown += until(terminal, str(file).encode())
            assert os.waitpid(child, 0)[1] == 0
        except BaseException:
            os.kill(child, signal.SIGKILL)
            raise
        finally:
            os.close(terminal)
    assert b"pass:word" not in shown
    assert credentials_for(fake.host) is not None


def until(terminal: int, text: bytes) -> bytes:
    """Read what a program prints up to a text."""
    shown = b""
    while text not in shown:
        try:
            more = os.read(terminal, 4096)
        except OSError:
            more = b""
        assert more, shown
        shown += more
    return shown
