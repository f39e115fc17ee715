"""The program as a whole: its imports, exit codes, pipes and signals."""

from __future__ import annotations

import errno
import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import click
import pytest

from layerstore_core._version import __version__
from layerstore_core.cli.app import cli
from layerstore_core.cli.commands.register import register
from layerstore_core.errors import LayerStoreError
from layerstore_core.store.store import LayerStore
from tests.cli.conftest import Run, tar_of, tree
from tests.cli.modules import loaded

HEAVY = ("pydantic", "pydantic_settings", "loguru", "rich", "pluggy", "isal", "importlib_metadata", "urllib3")
UNKNOWN = "ab" * 32


def walk(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], click.Command]]:
    """Return every command below `group`, with the words that call it."""
    found = []
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            found += walk(command, (*words, name))
        else:
            found.append(((*words, name), command))
    return found


COMMANDS = walk(cli)


@pytest.mark.parametrize("words", [["--help"], ["register", "--help"], ["completion", "bash"]])
def test_nothing_heavy_is_imported_before_a_command_needs_it(words: list[str], tmp_path: Path) -> None:
    modules = loaded(tmp_path, *words)
    assert "layerstore_core.cli.app" in modules
    called = {walked[0] for walked, _ in COMMANDS} if words[0] == "--help" else {words[0]}
    assert {
        name
        for name in cli.commands
        if f"layerstore_core.cli.commands.{name}" in modules or f"layerstore_core.cli.commands.{name}_" in modules
    } == called
    assert not modules & {*HEAVY, "layerstore_core.store.store", "layerstore_core.config.model", "layerstore_core.log"}


@pytest.mark.parametrize("command", ["register", "ls", "export"])
@pytest.mark.parametrize("driver", ["vfs", "overlay2"])
def test_slow_modules_are_not_imported_by_common_commands(command: str, driver: str, tmp_path: Path) -> None:
    if driver == "overlay2" and os.geteuid() != 0:
        pytest.skip("overlays are mounted by root")
    (tmp_path / "a.tar").write_bytes(tar_of({"a": b"a"}))
    arguments = {"register": ["a.tar"], "ls": [], "export": ["@", "-o", "b.tar"]}
    options = ["--driver", driver, "--root", "store"]
    loaded(tmp_path, *options, "register", "a.tar")
    (chain,) = os.listdir(tmp_path / "store/image" / driver / "layerdb/sha256")
    modules = loaded(tmp_path, *options, command, *(word.replace("@", chain) for word in arguments[command]))
    assert "layerstore_core.store.store" in modules
    assert not modules & {"pydantic", "pydantic_core", "pydantic_settings", "loguru", "rich", "urllib3", "sqlite3"}


def test_version_is_printed(spawn: Run) -> None:
    assert spawn("--version").text == f"layerstore {__version__}\n"
    assert spawn("--root", "x", "--version").text == f"layerstore {__version__}\n"


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_version_that_cannot_be_written_is_an_error(command: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*command, "--version"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert b"No space left on device" in done.stderr
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command, "--version"], capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (1, b"layerstore: standard output: Bad file descriptor\n")


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=lambda v: "-".join(v) if isinstance(v, tuple) else "")
def test_every_command_has_help_with_an_example_and_takes_json(
    run: Run, words: tuple[str, ...], command: click.Command
) -> None:
    text = run(*words, "--help").text
    assert "Example" in text
    assert f"layerstore {' '.join(words)}" in text.split("Example", 1)[1]
    assert "--json" in text
    assert not command.get_short_help_str(62).endswith("..."), "the summary is cut short in the list of commands"


@pytest.mark.parametrize(
    "args",
    [
        (),
        ("frobnicate",),
        ("--frobnicate", "ls"),
        ("rw",),
        ("rw", "frobnicate"),
        ("show",),
        ("ls", "extra"),
        ("--driver-opt", "novalue", "ls"),
        ("completion", "tcsh"),
    ],
)
def test_wrong_usage_exits_with_2(run: Run, args: tuple[str, ...]) -> None:
    outcome = run(*args, code=2)
    assert outcome.stdout == b""
    assert "Usage:" in outcome.stderr


@pytest.mark.parametrize("args", [("--json", "frobnicate"), ("--json", "--frobnicate", "ls"), ("show", "XX", "--json")])
def test_wrong_usage_in_json(run: Run, args: tuple[str, ...]) -> None:
    outcome = run(*args, code=2)
    assert outcome.stdout == b""
    assert set(outcome.error) == {"type", "message"}


def test_json_after_a_double_dash_is_no_option(run: Run, tmp_path: Path) -> None:
    outcome = run("register", "--", "--json", code=1)
    assert outcome.stderr.startswith("layerstore: --json: No such file or directory")


READING = [
    ("ls",), ("show", UNKNOWN), ("export", UNKNOWN, "-o", "x.tar"), ("rm", UNKNOWN), ("check",), ("gc",), ("rw", "ls"),
    ("rw", "mount", "x"), ("rw", "umount", "x"), ("rw", "changes", "x"), ("rw", "commit", "x"), ("rw", "rm", "x"),
    ("save", "x", "-o", "x.tar"), ("push", "x"), ("images",), ("history", "x"), ("tag", "x", "y"), ("rmi", "x"),
    ("inspect", "x"), ("files", "x"), ("cat", "x", "y"), ("cp", "x:/y", "z"), ("which", "x", "y"),
    ("commit", "x", "y"), ("config", "x", "-t", "y", "--user", "z"),
    ("squash", "x", "-t", "y"), ("rootfs", "x", "-o", "y"), ("diff", "x", "y"),
    ("rebase", "x", "--old", "y", "--new", "z", "-t", "n"), ("mount",), ("umount", "x"), ("du",), ("prune",),
    ("report", "x", "-o", "y"), ("explore", "x"),
]  # fmt: skip


@pytest.mark.parametrize("args", READING, ids=" ".join)
def test_a_command_that_adds_nothing_creates_no_store(run: Run, root: Path, args: tuple[str, ...]) -> None:
    assert f"there is no store at {root}" in run(*args, code=1).stderr
    assert run("--json", *args, code=1).error["type"] == "StoreDoesNotExist"
    assert not root.exists()


def test_every_other_command_creates_a_store_or_needs_none() -> None:
    creates = {("register",), ("rw", "create"), ("load",), ("pull",), ("append",), ("import",)}
    needs_none = {
        ("drivers",),
        ("driver", "new"),
        ("info",),
        ("conformance",),
        ("completion",),
        ("unshare",),
        ("tags",),
        ("login",),
        ("logout",),
    }
    reading = {args[:2] if args[0] == "rw" else args[:1] for args in READING}
    assert {words for words, _ in COMMANDS} == reading | creates | needs_none


@pytest.mark.usefixtures("used")
@pytest.mark.parametrize("place", ["before", "after"])
def test_an_error_is_json_if_asked_for(run: Run, place: str) -> None:
    args = ("--json", "show", UNKNOWN) if place == "before" else ("show", UNKNOWN, "--json")
    outcome = run(*args, code=1)
    assert outcome.stdout == b""
    assert outcome.error["type"] == "LayerDoesNotExist"
    assert UNKNOWN in outcome.error["message"]


def test_an_error_of_the_system_has_the_path_and_the_operation(run: Run, tmp_path: Path) -> None:
    outcome = run("register", tmp_path / "none.tar", code=1)
    assert outcome.stderr == (
        f"layerstore: {tmp_path}/none.tar: No such file or directory (while opening the layer's tar)\n"
    )
    assert run("--json", "register", tmp_path / "none.tar", code=1).error["type"] == "FileNotFoundError"


@pytest.mark.usefixtures("used")
def test_an_error_on_the_store_of_another_user_names_both_users(
    run: Run, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(root / "image"))

    owner = os.geteuid()
    monkeypatch.setattr(LayerStore, "open", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert run("ls", code=1).stderr == (
        f"layerstore: {root}/image: Permission denied "
        f"(while opening the store {root}; the store belongs to user {owner}, and this is user 12345)\n"
    )


def test_a_note_on_an_error_is_printed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        error = LayerStoreError("it broke")
        error.add_note("in driver x, hook y")
        raise error

    monkeypatch.setattr(register, "callback", fail)
    assert run("register", "x", code=1).stderr == "layerstore: it broke\n  in driver x, hook y\n"


def test_a_bug_has_its_traceback_but_is_json_if_asked_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(register, "callback", fail)
    with pytest.raises(ZeroDivisionError):
        cli.run(["register", "x"])
    assert run("--json", "register", "x", code=1).error == {"type": "ZeroDivisionError", "message": "a bug"}


def test_standard_output_has_only_the_answer_even_with_full_logging(spawn: Run, base: Path) -> None:
    chain = spawn("register", base).text.strip()
    loud = spawn("-vv", "show", chain, "--json")
    assert loud.json["chain_id"] == chain
    assert spawn("-vv", "--log-json", "export", chain).stdout == base.read_bytes()


def test_json_logs_have_one_object_per_line(spawn: Run, base: Path, root: Path) -> None:
    chain = spawn("register", base).text.strip()
    (root / "image/vfs/layerdb/sha256" / chain[7:] / "diff").write_text("")
    lines = spawn("--log-json", "ls").stderr.splitlines()
    assert lines, "a layer that cannot be loaded is worth a warning"
    assert all(isinstance(json.loads(line), dict) for line in lines)


def test_a_reader_that_closes_standard_output_is_no_error(spawn: Run, command: list[str], tmp_path: Path) -> None:
    tar = tar_of({"big": os.urandom(3 << 20)})
    chain = spawn("register", "-", stdin=tar).text.strip()
    with subprocess.Popen([*command, "export", chain], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(512) == tar[:512]
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


def test_a_reader_that_closes_the_help_text_is_no_error(command: list[str]) -> None:
    with subprocess.Popen([*command, "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(30) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_output_that_cannot_be_written_is_an_error(command: list[str], base: Path) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*command, "register", base], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr == b"layerstore: standard output: No space left on device\n"


def test_closed_standard_output_is_an_error(command: list[str]) -> None:
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command, "info"], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == b"layerstore: standard output: Bad file descriptor\n"


def test_help_that_cannot_be_written_is_an_error(command: list[str]) -> None:
    done = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command, "--help"], capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stderr == b"layerstore: standard output: Bad file descriptor\n"


@pytest.mark.parametrize(
    "words",
    [
        ("show", "x" * 5000),
        ("show", "X" * 5000),
        ("rw", "mount", "x" * 200_000),
        ("load", "x" * 5000),
        ("tag", "x" * 5000, "b"),
        ("diff", "x" * 5000, "y"),
        ("images", "--filter", "x" * 5000 + "=1"),
        ("config", "a", "-t", "b", "--expose", "x" * 5000),
        ("config", "a", "-t", "b", "--env", "x " * 50_000),
        ("x" * 5000,),
        ("--" + "x" * 5000,),
    ],
    ids=lambda words: " ".join(words)[:20],
)
@pytest.mark.usefixtures("used")
def test_a_long_word_is_not_quoted_whole(run: Run, words: tuple[str, ...]) -> None:
    outcome = run(*words, code=None)
    assert outcome.code in (1, 2)
    assert len(outcome.stderr) < 9000
    assert max(map(len, outcome.stderr.split())) < 700
    assert len(run("--json", *words, code=None).stderr) < 9000


@pytest.mark.parametrize(
    ("sent", "code", "message"),
    [
        (signal.SIGINT, 130, "layerstore: interrupted\n"),
        (signal.SIGTERM, 143, "layerstore: stopped by SIGTERM\n"),
        (signal.SIGHUP, 129, "layerstore: stopped by SIGHUP\n"),
    ],
)
def test_a_stopped_register_leaves_nothing_behind(
    spawn: Run, command: list[str], root: Path, sent: signal.Signals, code: int, message: str
) -> None:
    spawn("register", "-", stdin=tar_of({"there": b"before"}))
    before = tree(root)
    with subprocess.Popen([*command, "register", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        # This is more than fits into a pipe: once it is written, the layer is being unpacked.
        process.stdin.write(tar_of({"a": b"a" * 100_000, "b": os.urandom(4 << 20)})[: 3 << 20])
        process.stdin.flush()
        deadline = time.monotonic() + 20
        while tree(root) == before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert tree(root) != before, "the layer was never begun"
        process.send_signal(sent)
        assert process.wait(30) == code
        assert process.stderr.read().decode() == message
    assert tree(root) == before


def test_progress_is_shown_on_a_terminal_and_not_on_standard_output(command: list[str], base: Path) -> None:
    master, slave = pty.openpty()
    try:
        done = subprocess.run([*command, "register", base], stdout=subprocess.PIPE, stderr=slave, check=True)
        os.close(slave)
        shown = b""
        # If the other end of a terminal is closed, a read is an error instead of an end of file.
        try:
            while chunk := os.read(master, 65536):
                shown += chunk
        except OSError:
            pass
    finally:
        os.close(master)
    assert b"Registering" in shown
    assert done.stdout.startswith(b"sha256:")
    assert len(done.stdout) == 72


def test_no_progress_is_shown_without_a_terminal(spawn: Run, base: Path) -> None:
    assert spawn("register", base).stderr == ""
