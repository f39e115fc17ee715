"""`docs/cli.md` describes every command, option and JSON key of the program."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click
import pytest

from layerstore_core import LayerStore, Snapshots
from layerstore_core.cli.app import cli
from tests.cli.conftest import Run, docker_archive, tar_of
from tests.cli.test_app import COMMANDS
from tests.docs.surroundings import registry

TEXT = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
SECTIONS = dict(
    re.findall(r"^### `layerstore ([a-z ]+?)(?: [A-Z\[].*?)?`\n(.*?)(?=^##|\Z)", TEXT, re.MULTILINE | re.DOTALL)
)
#: The keys of reports have a document of their own: each is the last part of a path there.
SCHEMA = re.sub(r"\b[.\[\]]+", "`", (Path(__file__).parents[2] / "docs" / "reference" / "report.md").read_text())
#: The options that several commands have, and a mark in the headings of those.
SHARED = {"[config options]": re.findall(r"^#### Config options\n(.*?)(?=^##)", TEXT, re.MULTILINE | re.DOTALL)[0]}
HEADINGS = re.findall(r"^### `layerstore (.*)`$", TEXT, re.MULTILINE)


def test_the_document_has_a_section_for_each_command_and_no_other() -> None:
    assert sorted(SECTIONS) == sorted(" ".join(words) for words, _ in COMMANDS)


@pytest.mark.parametrize(("words", "command"), COMMANDS, ids=lambda v: "-".join(v) if isinstance(v, tuple) else "")
def test_every_argument_and_option_of_a_command_is_documented(words: tuple[str, ...], command: click.Command) -> None:
    name = " ".join(words)
    text = next(h for h in HEADINGS if h == name or h.startswith((f"{name} [", *(f"{name} {c}" for c in "ACDFHINRST"))))
    text += SECTIONS[name] + "".join(options for mark, options in SHARED.items() if mark in text)
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            assert parameter.human_readable_name.upper() in text
        elif parameter.name != "json":
            assert all(option in text for option in parameter.opts), parameter.opts


def test_every_global_option_is_documented() -> None:
    for parameter in cli.params:
        for option in parameter.opts:
            assert f"`{option}" in TEXT, option


def keys_of(document: Any) -> set[str]:
    """Return all keys of our own: not those below `metadata`, `descriptor`, `config`, nor the names of settings."""
    if isinstance(document, list):
        return set().union(*map(keys_of, document))
    if not isinstance(document, dict):
        return set()
    keys = set(document)
    for key, value in document.items():
        if key == "configuration":
            keys |= set().union(*(set(setting) for setting in value.values()))
        elif key not in ("metadata", "descriptor", "config"):
            keys |= keys_of(value)
    return keys


def test_every_key_of_every_json_answer_is_documented(run: Run, root: Path, tmp_path: Path) -> None:
    run("rw", "create", "spare")
    chain = run("register", "-", stdin=tar_of({"a": b"a"})).text.strip()
    run("rw", "create", "work", "--parent", chain)
    work = Path(run("rw", "mount", "work").text.strip())
    (work / "new").write_text("new")
    with LayerStore.open(root=root, driver="vfs") as store, Snapshots(store) as snapshots:
        snapshots.prepare("box")
    answers = {
        ("drivers",): (),
        ("driver", "new"): ("zfs", str(tmp_path / "zfs")),
        ("info",): (),
        ("ls",): (),
        ("show",): (chain,),
        ("export",): (chain, "-o", str(tmp_path / "x.tar")),
        ("rw", "ls"): (),
        ("rw", "mount"): ("work",),
        ("rw", "changes"): ("work",),
        ("rw", "commit"): ("work",),
        ("rw", "umount"): ("work",),
        ("rw", "create"): ("another",),
        ("rw", "rm"): ("work",),
        ("check",): (),
        ("gc",): (),
        ("du",): (),
        ("prune",): ("--dry-run",),
        ("completion",): ("bash",),
        ("conformance",): ("vfs", "--only", "sizes"),
        ("load",): (archive := docker_archive(tmp_path, "app:1"),),
        ("save",): ("app:1", "-o", str(tmp_path / "saved.tar")),
        ("append",): ("app:1", str(archive), "-t", "more:1"),
        ("import",): (str(archive), "-t", "root:1"),
        ("images",): (),
        ("inspect",): ("app:1",),
        ("history",): ("app:1",),
        ("files",): ("app:1", "-R"),
        ("cat",): ("app:1", "in-image"),
        ("cp",): ("app:1:/in-image", str(tmp_path / "copy")),
        ("which",): ("app:1", "in-image"),
        ("squash",): ("app:1", "-t", "flat:1"),
        ("diff",): ("more:1", "app:1"),
        ("report",): ("more:1", "app:1"),
        ("explore",): ("more:1", "--layer", "1"),
        ("rootfs",): ("app:1", "-o", str(tmp_path / "rootfs")),
        ("mount",): (),
        ("umount",): ("app:1",),
        ("tag",): ("app:1", "app:2"),
        ("config",): ("app:1", "-t", "app:3", "--user", "me"),
        ("commit",): ("another", "app:4"),
        ("rebase",): ("app:1", "--old", "app:1", "--new", "app:3", "-t", "app:5"),
        ("rmi",): ("app:2",),
    }
    seen = {}
    for words, arguments in answers.items():
        seen[words] = run("--json", *words, *arguments).json
    top = seen["rw", "commit"]["chain_id"]
    seen["rm",] = run("--json", "rm", top).json
    seen["register",] = run("--json", "register", "-", stdin=tar_of({"b": b"b"})).json
    with registry() as fake:
        seen["push",] = run("--json", "push", "app:1", f"{fake.host}/app:2", "-q").json
        seen["tags",] = run("--json", "tags", f"{fake.host}/app").json
        seen["pull",] = run("--json", "pull", f"{fake.host}/app:1.0", "-q").json
        seen["login",] = run("--json", "login", fake.host, "-u", "me", "--password-stdin", stdin=b"word").json
        seen["logout",] = run("--json", "logout", fake.host).json
    seen["drivers",] |= run("--json", "drivers", "--options", "overlay2").json
    about_registry = run("--json", "info", "--registry", "docker.io").json
    seen["info",] |= {key: value for key, value in about_registry.items() if key not in seen["info",]}
    # The program that `unshare` runs answers in its place.
    assert {*seen, ("unshare",)} == {words for words, _ in COMMANDS}
    for words, document in seen.items():
        section = SECTIONS[" ".join(words)]
        # These refer to the command that describes their objects.
        also = {("ls",): SECTIONS["register"], ("report",): SCHEMA}.get(words, "")
        if words[0] in ("images", "append", "import", "squash"):
            also = SECTIONS["load"]
        missing = {key for key in keys_of(document) if f"`{key}`" not in section + also}
        assert not missing, f"{' '.join(words)}: not documented: {missing}"
