"""Plain command lines are read as click reads them, and do the same."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.cli.app import cli
from layerstore_core.cli.plain import layers, lines, writable
from layerstore_core.cli.session import Session

ID = "ab" * 32

words = st.one_of(
    st.sampled_from(
        [
            "ls", "register", "rw", "create", "mount", "umount", "rm", "show", "commit", "--root", "--driver", "--json",
            "--parent", "--allow-empty", "-q", "--quiet", "--no-trunc", "--filter", "--format", "--config", "-v", "--",
            "-", "", ".", "a/b", "x", "/", __file__, "/nowhere/x.tar", ID, f"sha256:{ID}", "abcd", "debian:12",
            "--help", f"--parent={ID}", "--parent=x", "--root=/x", "--root=", f"--root={__file__}", "--json=1",
            "--driver=vfs", "--image", "--mount-label", "-qq", "--quie", "\udcff", "n" * 256, "--root=a\0b",
        ]
    ),
    st.text(max_size=3),
)  # fmt: skip
command = st.sampled_from([("ls",), ("register",), ("rw", "create"), ("rw", "mount"), ("rw", "umount"), ("rw", "rm")])
command_lines = st.one_of(
    st.lists(words, max_size=6),
    st.tuples(st.lists(words, max_size=3), command, st.lists(words, max_size=4)).map(
        lambda parts: [*parts[0], *parts[1], *parts[2]]
    ),
)


class Store:
    """Knows one layer, and notes what is made."""

    def has_layer(self, chain: str) -> bool:
        return chain == f"sha256:{ID}"

    def create_rw_layer(self, name: str, parent: str | None, **options: Any) -> Any:
        assert options in ({}, {"mount_label": "", "storage_opt": None})
        return name, parent


@pytest.fixture(scope="module")
def calls() -> Any:
    """What the commands do is noted instead."""
    found: list[Any] = []
    patch = pytest.MonkeyPatch()

    def note(name: str) -> Any:
        def noted(session: Session, *arguments: Any, **options: Any) -> None:
            shown = [argument(Store()) if callable(argument) else argument for argument in arguments]
            while shown and shown[-1] in ("", None):  # defaults
                shown.pop()
            kept = {key: value for key, value in options.items() if value}
            found.append((name, session.root, session.driver, session.json, vars(session), shown, kept))

        return noted

    for module, names in ((layers, ["register_tar"]), (writable, ["create", "mount", "umount", "remove"])):
        for name in names:
            patch.setattr(module, name, note(name))
    from layerstore_core.cli.commands import ls, register

    patch.setattr(register, "register_tar", note("register_tar"))

    def listed(session: Session, listing: Any, choose: Any = None) -> None:
        found.append(("ls", vars(session), listing))

    patch.setattr(layers, "list_layers", listed)
    patch.setattr(ls, "list_layers", listed)
    with open(os.devnull) as null:
        patch.setattr(sys, "stdin", null)
        yield found
        patch.undo()


def by_click(args: list[str]) -> int:
    try:
        with cli.make_context("layerstore", list(args)) as context:
            cli.invoke(context)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        return error.exit_code
    return 0


@given(command_lines)
def test_a_plain_line_does_what_it_does_by_click(calls: list[Any], args: list[str]) -> None:
    calls.clear()
    code = lines.run(args)
    plain = list(calls)
    if code is None:
        assert plain == []
        return
    calls.clear()
    assert (code, by_click(args)) == (0, 0)
    assert plain == calls != []


@pytest.mark.parametrize(
    "args",
    [
        ["ls"],
        ["ls", "-q"],
        ["ls", "--json"],
        ["--json", "ls"],
        ["--root", "/x", "--driver", "vfs", "ls", "--no-trunc"],
        ["register", "x.tar"],
        ["register", "-", "--parent", ID, "--allow-empty"],
        ["--root=/x", "register", f"--parent=sha256:{ID}", "x.tar", "--json"],
        ["rw", "create", "w"],
        ["rw", "create", "w", "--parent", ID, "--json"],
        ["rw", "mount", "w"],
        ["rw", "umount", "w"],
        ["rw", "rm", "w", "--json"],
    ],
    ids=" ".join,
)
def test_a_usual_line_is_plain(calls: list[Any], args: list[str]) -> None:
    calls.clear()
    assert lines.run(args) == 0
    assert len(calls) == 1


@pytest.mark.parametrize(
    "args",
    [
        [],
        ["--help"],
        ["ls", "--help"],
        ["ls", "extra"],
        ["ls", "-q", "--json"],
        ["ls", "--filter", "pinned=true"],
        ["-v", "ls"],
        ["--driver-opt", "a=b", "ls"],
        ["--config", "x", "ls"],
        ["register"],
        ["register", "x", "y"],
        ["register", "/"],
        ["register", ""],
        ["register", "x", "--parent", "abcd"],
        ["register", "x", "--parent", "debian:12"],
        ["register", "x", "--parent", "cd" * 32],
        ["--root", __file__, "ls"],
        ["--root", "", "ls"],
        ["rw"],
        ["rw", "ls"],
        ["rw", "create", "a/b"],
        ["rw", "create", "w", "--image", "x"],
        ["rw", "mount", "--", "w"],
    ],
    ids=" ".join,
)
def test_any_other_line_is_left_to_click(calls: list[Any], args: list[str]) -> None:
    calls.clear()
    assert lines.run(args) is None
    assert calls == []


def test_completion_is_left_to_click(calls: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_LAYERSTORE_COMPLETE", "bash_complete")
    assert lines.run(["ls"]) is None
    assert calls == []
