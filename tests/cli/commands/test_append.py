"""`layerstore append` and `import`: answers, options, standard input, and errors."""

from __future__ import annotations

import gzip
import json
import tarfile
from pathlib import Path

import pytest

from layerstore_core.cli.app import cli
from tests.cli.conftest import Run, tar_of

FIXED = ("--created", "2024-05-06T07:08:09Z")


@pytest.fixture
def app(tmp_path: Path) -> Path:
    (tmp_path / "app").write_bytes(b"#!/bin/sh\n")
    return tmp_path / "app"


def test_append_prints_the_id_of_the_new_image(run: Run, app: Path) -> None:
    first = run("append", "scratch", f"{app}:/bin/", "-t", "base:1", *FIXED)
    document = run(
        "append", "base:1", f"{app}:/opt/app", "-t", "app:1", *FIXED, "--chown", "5:6", "--chmod", "750",
        "--mtime", "1970-01-01T00:00:07Z", "--env", "A=b", "--entrypoint", '["/opt/app"]', "--json",
    ).json  # fmt: skip
    assert document["names"] == ["app:1"]
    assert first.text.strip() != document["id"]
    config = json.loads(run("inspect", "app:1", "--raw").stdout)
    assert config["config"] == {"Env": ["A=b"], "Entrypoint": ["/opt/app"]}
    listed = run("export", document["chain_id"], "-o", str(app.parent / "out.tar"), "--json").json
    assert listed
    with tarfile.open(app.parent / "out.tar") as tar:
        member = tar.getmember("opt/app")
        assert (member.uid, member.gid, member.mode, member.mtime) == (5, 6, 0o750, 7)
    history = run("history", "app:1", "--json").json["history"]
    assert [step["created_by"] for step in history] == [
        'ENV A=b; ENTRYPOINT ["/opt/app"]',
        "layerstore append /opt/app",
        "layerstore append /bin/app",
    ]


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("scratch", "missing", "-t", "a"), 1, "missing"),
        (("scratch", "app:/../x", "-t", "a"), 1, "leave the root"),
        (("nothing:1", "app", "-t", "a"), 1, "no store"),
        (("scratch", "app"), 2, "--tag"),
        (("scratch", "-t", "a"), 2, "SOURCE"),
        (("scratch", "app", "-t", "a b"), 1, "a b"),
        (("scratch", "app", "-t", "a", "--chmod", "rwx"), 2, "'--chmod': 'rwx' is not a mode; write it in octal"),
        (("scratch", "app", "-t", "a", "--chown", "5:"), 2, "'--chown': '5:' is not an owner"),
        (("scratch", "app", "-t", "a", "--mtime", "noon"), 2, "'--mtime': 'noon' is not a time"),
        (("scratch", "app", "-t", "a", "--created", "noon"), 2, "'--created': 'noon' is not a time"),
        (("scratch", "app", "-t", "a", "--chown", "4294967296"), 2, "'--chown': 4294967296 is too large"),
        (("scratch", "app", "-t", "a", "--chown", "www"), 1, "'www' of the new owner (--chown) has no number"),
        (
            ("scratch", "app", "-t", "a", "--env", "=x"),
            2,
            "'--env': the name of a variable of the environment is empty",
        ),
        (("scratch", "app", "-t", "a", "--user", " u"), 2, "'--user': the user ' u' has blanks"),
        (("scratch", "app:relative", "-t", "a"), 2, "begins with a slash"),
        (("scratch", "app", "-t", "a", "--expose", "many"), 2, "many"),
        (("scratch", "", "-t", "a"), 1, "no source"),
    ],
)
def test_a_wrong_command_line_is_refused(
    run: Run, app: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(app.parent)
    outcome = run("append", *words, code=code)
    assert message in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_import_takes_a_file_a_directory_and_standard_input(run: Run, tmp_path: Path) -> None:
    tar = tar_of({"etc/hosts": b"localhost\n"})
    (tmp_path / "root.tar.gz").write_bytes(gzip.compress(tar))
    (tmp_path / "root" / "etc").mkdir(parents=True)
    first = run("import", tmp_path / "root.tar.gz", "-t", "one", *FIXED, "--cmd", "sh", "--json").json
    second = run("import", "-", "-t", "two", *FIXED, "--cmd", "sh", stdin=tar)
    assert second.text.strip() == first["id"]
    assert run("export", "one", "-o", "-").stdout == tar
    third = run("import", tmp_path / "root", "-t", "three", *FIXED, "--json").json
    assert third["id"] != first["id"]
    assert third["names"] == ["three:latest"]


def test_import_of_nothing_is_refused(run: Run, tmp_path: Path) -> None:
    assert "empty" in run("import", "-", "-t", "x", code=1).stderr
    assert "missing" in run("import", tmp_path / "missing", "-t", "x", code=1).stderr
    assert run("images", "--json").json["images"] == []


def test_squash_prints_the_id_of_the_new_image(run: Run, app: Path) -> None:
    run("append", "scratch", f"{app}:/a", "-t", "one", *FIXED)
    run("append", "one", f"{app}:/b", "-t", "two", *FIXED)
    document = run("squash", "two", "-t", "all", *FIXED, "--message", "why", "--json").json
    assert document["names"] == ["all:latest"]
    assert len(document["diff_ids"]) == 1
    layer = run("inspect", "two", "--json").json["layers"][1]["chain_id"]
    for words in (("--keep", "1"), ("--from", layer[:12])):
        kept = run("squash", "two", "-t", "kept", *words, *FIXED, "--json").json
        assert len(kept["diff_ids"]) == 2
    assert "give one of them" in run("squash", "two", "-t", "x", "--keep", "1", "--from", layer, code=2).stderr
    assert "2 layers" in run("squash", "two", "-t", "x", "--keep", "2", code=2).stderr
    assert "'--created': 'noon' is not a time" in run("squash", "two", "-t", "x", "--created", "noon", code=2).stderr
    assert "nothing" in run("squash", "nothing", "-t", "x", code=1).stderr


def test_rootfs_writes_a_tar_a_directory_and_standard_output(run: Run, app: Path) -> None:
    run("append", "scratch", f"{app}:/opt/app", "-t", "one", *FIXED)
    out = app.parent / "out"
    document = run("rootfs", "one", "-o", out, "--json").json
    assert document["file"] == str(out)
    assert (out / "opt" / "app").read_bytes() == app.read_bytes()
    run("rootfs", document["chain_id"][:12], "-o", app.parent / "out.tar")
    assert run("rootfs", "one", "-o", "-").stdout == (app.parent / "out.tar").read_bytes()
    assert "not an empty directory" in run("rootfs", "one", "-o", out, code=1).stderr
    assert run("rootfs", "one", "-o", "-", "--json", code=2).stdout == b""


def test_diff_lists_what_differs(run: Run, app: Path) -> None:
    run("append", "scratch", f"{app}:/a", f"{app}:/b", f"{app}:/c", "-t", "one", *FIXED)
    app.chmod(0o600)
    changed = app.parent / "changed"
    changed.write_bytes(b"other")
    run("append", "one", f"{app}:/a", f"{changed}:/b", f"{changed}:/n\x1b", "-t", "two", *FIXED)
    assert run("diff", "one", "two", "--ignore", "mtime", code=0).lines == [
        "C /a  (mode 0644 -> 0600)",
        "C /b  (size 10 -> 5, content)",
        "A /n\\x1b",
    ]
    assert run("diff", "one", "two", "--by", "names").lines == ["A /n\\x1b"]
    assert run("diff", "one", "two", "--stat").lines == ["1 added, 2 changed, 0 deleted; +10 B -10 B"]
    document = run("diff", "one", "two", "--json", "--exit-code", code=1).json
    assert document["stat"] == {"added": 1, "changed": 2, "deleted": 0, "added_bytes": 10, "deleted_bytes": 10}
    first = document["changes"][0]
    assert (first["kind"], first["path"], first["what"]) == ("C", "/a", ["mode"])
    assert (first["before"]["mode"], first["after"]["mode"]) == ("0644", "0600")
    assert "changes" not in run("diff", "one", "two", "--json", "--stat").json
    assert run("diff", "one", "one", "--exit-code").lines == []


def test_diff_takes_layers_and_writable_layers_and_writes_the_layer_between(run: Run, app: Path) -> None:
    run("append", "scratch", f"{app}:/a", "-t", "one", *FIXED)
    run("rw", "create", "work", "--image", "one")
    work = Path(run("rw", "mount", "work").text.strip())
    (work / "new").write_bytes(b"new")
    assert run("diff", "one", "work").lines == ["A /new"]
    layer = run("inspect", "one", "--json").json["chain_id"]
    assert run("diff", "work", layer[:14]).lines == ["D /new"]
    tar = run("diff", "one", "work", "-o", "-").stdout
    run("diff", "one", "work", "-o", app.parent / "out.tar")
    assert (app.parent / "out.tar").read_bytes() == tar
    run("append", "one", app.parent / "out.tar", "-t", "two", *FIXED)
    assert run("diff", "two", "work").lines == []
    run("rw", "umount", "work")


def test_wrong_uses_of_diff_are_refused(run: Run, app: Path) -> None:
    run("append", "scratch", f"{app}:/a", "-t", "one", *FIXED)
    run("rw", "create", "one")
    assert "and a writable layer" in run("diff", "one", "one", code=2).stderr
    assert run("diff", "rw:one", "one:latest").lines == ["A /a"]
    run("rw", "create", "No_reference!")
    assert run("diff", "No_reference!", "rw:one").lines == []
    for word in ("Nothing!", "missing", "abcdef123", "rw:missing"):
        stderr = run("diff", "one:latest", word, code=1).stderr
        assert f"there is no image, no layer and no writable layer {word!r}" in stderr
    assert "cannot be combined" in run("diff", "one:latest", "one:latest", "-o", "x", "--stat", code=2).stderr
    assert "'all'" in run("diff", "one:latest", "one:latest", "--by", "all", code=2).stderr


def test_a_shell_completes_sources_as_files(root: Path) -> None:
    from click.shell_completion import ShellComplete

    completion = ShellComplete(cli, {}, "layerstore", "_LAYERSTORE_COMPLETE")
    assert [item.type for item in completion.get_completions(["append", "scratch"], "ap")] == ["file"]


def test_squash_says_how_many_layers_may_stay(run: Run, app: Path) -> None:
    run("append", "scratch", f"{app}:/a", "-t", "one", *FIXED)
    assert (
        "the image has 1 layer: keep (--keep) is 0 to 0, not 5"
        in run("squash", "one", "-t", "x", "--keep", "5", code=2).stderr
    )
    run("append", "one", f"{app}:/b", "-t", "two", *FIXED)
    assert "2 layers: keep (--keep) is 0 to 1, not 2" in run("squash", "two", "-t", "x", "--keep", "2", code=2).stderr
    assert "'--created': 'noon' is not a time" in run("squash", "one", "-t", "x", "--created", "noon", code=2).stderr
    assert (
        "'--created': 'noon' is not a time"
        in run("rebase", "two", "--old", "one", "--new", "one", "-t", "x", "--created", "noon", code=2).stderr
    )
