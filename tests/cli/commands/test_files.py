"""`files`, `cat` and `which`: what an image has, without a mount."""

from __future__ import annotations

import os
from base64 import b64decode
from pathlib import Path

import pytest

from tests import tars
from tests.across.chains import attributes, d, f, link, node, sym
from tests.cli.conftest import Run, docker_archive

LAYERS = (
    tars.tar(
        d(b"etc", mode=0o750, uid=3, gid=4),
        f(b"etc/hosts", b"old\n"),
        f(b"etc/gone", b"gone\n"),
        sym(b"etc/link", b"/etc/hosts"),
        sym(b"loop", b"loop"),
        node(b"null", b"3", (1, 3), mode=0o666),
        f(b"\xffraw\n", b"r"),
    ),
    tars.tar(f(b"etc/.wh.gone"), f(b"etc/hosts", b"new\n", mode=0o4600), d(b"usr/lib")),
    tars.tar(
        attributes(f(b"usr/lib/a", b"\0\xff" * 300_000), user_x=b"\0"), link(b"usr/lib/b", b"usr/lib/a", mode=0o600)
    ),
)


@pytest.fixture
def image(run: Run, tmp_path: Path) -> str:
    run("load", docker_archive(tmp_path, "app:1", layers=LAYERS))
    return "app:1"


def test_files_lists_a_directory_with_whole_paths(run: Run, image: str) -> None:
    assert run("files", image).stdout.split(b"\n") == [b"/etc", b"/loop", b"/null", b"/usr", b"/\xffraw\\n", b""]
    assert run("files", image, "etc/").lines == ["/etc/hosts", "/etc/link"]
    assert run("files", image, "/etc/../usr").lines == ["/usr/lib"]
    assert run("files", image, "/etc/link").lines == ["/etc/hosts"]


def test_files_lists_everything_below_a_path(run: Run, image: str) -> None:
    assert run("files", image, "-R", "usr").lines == ["/usr/lib", "/usr/lib/a", "/usr/lib/b"]
    assert run("files", image, "-R", "etc/hosts").lines == ["/etc/hosts"]
    assert len(run("files", image, "-R").stdout.splitlines()) == 10


def test_files_shows_metadata_in_columns(run: Run, image: str) -> None:
    assert run("files", image, "-l").stdout.startswith(
        b"drwxr-x---  3:4  0    2020-09-13 12:26:40  /etc\n"
        b"lrwxrwxrwx  0:0  4    2020-09-13 12:26:40  /loop -> loop\n"
        b"crw-rw-rw-  0:0  1,3  2020-09-13 12:26:40  /null\n"
        b"drwxr-xr-x  0:0  0    1970-01-01 00:00:00  /usr\n"
    )
    assert run("files", image, "-l", "etc/hosts").text.startswith("-rwS------  0:0  4  ")
    assert run("files", image, "-l", "etc/link").text.endswith("/etc/link -> /etc/hosts\n")


def test_files_as_json_have_all_metadata_and_their_layers(run: Run, image: str) -> None:
    document = run("files", image, "-R", "--json").json
    layers = run("inspect", image, "--json").json["layers"]
    found = {file["path"]: file for file in document["files"]}
    assert document["chain_id"] == layers[2]["chain_id"]
    assert found["/usr/lib/b"] == {
        "path": "/usr/lib/b",
        "type": "file",
        "mode": "0600",
        "uid": 0,
        "gid": 0,
        "size": 600_000,
        "mtime_ns": 1_600_000_000 * 10**9,
        "target": None,
        "device": None,
        "xattrs": {"user.x": "AA=="},
        "hard_links": ["/usr/lib/a", "/usr/lib/b"],
        "chain_id": layers[2]["chain_id"],
    }
    assert (found["/null"]["type"], found["/null"]["device"]) == ("char", [1, 3])
    assert (found["/etc/link"]["target"], found["/etc/link"]["chain_id"]) == ("/etc/hosts", layers[0]["chain_id"])
    assert os.fsdecode(b"/\xffraw\n") in found


def test_files_of_a_layer_are_those_of_its_chain(run: Run, image: str) -> None:
    layers = run("inspect", image, "--json").json["layers"]
    document = run("files", layers[1]["chain_id"][7:19], "-R", "--json").json
    assert (document["id"], document["chain_id"]) == (None, layers[1]["chain_id"])
    assert "/usr/lib" in {file["path"] for file in document["files"]}
    assert run("cat", layers[0]["chain_id"], "etc/gone").text == "gone\n"


def test_cat_writes_the_bytes_of_files_through_links(run: Run, image: str) -> None:
    assert run("cat", image, "/etc/link").text == "new\n"
    assert run("cat", image, "usr/lib/b", "etc/hosts").stdout == b"\0\xff" * 300_000 + b"new\n"
    assert run("cat", image, b"/\xffraw\n".decode("utf-8", "surrogateescape")).text == "r"


def test_cat_as_json_has_the_content_in_base64(run: Run, image: str) -> None:
    (file,) = run("cat", image, "etc/link", "--json").json["files"]
    assert (file["path"], file["size"], b64decode(file["content"])) == ("/etc/hosts", 4, b"new\n")


@pytest.mark.parametrize(
    ("path", "what"),
    [
        ("etc", "Is a directory"),
        ("nowhere", "No such file or directory"),
        ("etc/gone", "No such file or directory"),
        ("loop", "Too many levels of symbolic links"),
        ("etc/hosts/x", "Not a directory"),
        ("null", "Invalid argument"),
    ],
)
def test_cat_of_what_has_no_content_says_what_and_where(run: Run, image: str, path: str, what: str) -> None:
    outcome = run("cat", image, "etc/hosts", path, code=1)
    assert outcome.stdout == b"", "nothing is written before all paths are known to be right"
    assert (
        outcome.stderr == f"layerstore: {path}: {what} (in app:1; 'layerstore files app:1 -R' lists all files there)\n"
    )


def test_cat_reads_no_other_layer(run: Run, image: str, root: Path) -> None:
    """The driver's files of the layers that do not have the file are gone, and nothing needs them."""
    for layer in run("inspect", image, "--json").json["layers"]:
        if layer["diff_id"] != run("inspect", image, "--json").json["layers"][1]["diff_id"]:
            cache = run("show", layer["chain_id"], "--json").json["cache_id"]
            (root / "vfs" / "dir" / cache).rename(root / "vfs" / "dir" / f"{cache}-away")
    assert run("cat", image, "etc/hosts").text == "new\n"
    assert "usr/lib/a" in run("files", image, "-R").stdout.decode("utf-8", "replace")
    assert "missing" in run("cat", image, "usr/lib/a", code=1).stderr


def test_damaged_content_is_an_error(run: Run, image: str, root: Path) -> None:
    (path,) = [path for path in root.glob("vfs/dir/*/usr/lib/a") if path.is_file()]
    path.write_bytes(b"\0\xff" * 299_999 + b"\0\0")
    outcome = run("cat", image, "usr/lib/a", code=1)
    assert "is not what was registered: its checksum differs" in outcome.stderr
    path.write_bytes(b"short")
    assert "its size is no longer 600000 bytes" in run("cat", image, "usr/lib/a", code=1).stderr


def test_which_shows_the_layers_of_a_path_the_last_first(run: Run, image: str) -> None:
    layers = [layer["chain_id"][7:19] for layer in run("inspect", image, "--json").json["layers"]]
    assert run("which", image, "etc/link").lines == [
        "LAYER         CHANGE   CREATED BY",
        f"{layers[1]}  changed  step 1",
        f"{layers[0]}  added    step 0",
    ]
    assert run("which", image, "-P", "etc/link").lines[1:] == [f"{layers[0]}  added   step 0"]


def test_which_knows_what_deleted_a_path(run: Run, image: str) -> None:
    document = run("which", image, "etc/gone", "--json").json
    assert (document["path"], document["exists"]) == ("/etc/gone", False)
    assert [(step["change"], step["created_by"]) for step in document["steps"]] == [
        ("deleted", "step 1"),
        ("added", "step 0"),
    ]


def test_which_of_a_path_that_no_layer_had_is_an_error(run: Run, image: str) -> None:
    assert "etc/never: No such file or directory (in app:1" in run("which", image, "etc/never", code=1).stderr
    assert "Too many levels" in run("which", image, "loop", code=1).stderr


def test_image_without_layers_is_an_empty_tree(run: Run, tmp_path: Path) -> None:
    from tests.images.archives import ImageSpec
    from tests.images.archives import docker_archive as archive_of

    path = tmp_path / "empty.tar"
    path.write_bytes(archive_of(ImageSpec((), ["empty:1"])))
    run("load", path)
    assert run("files", "empty:1", "-R").text == ""
    assert "No such file" in run("cat", "empty:1", "a", code=1).stderr


def test_unknown_images_are_refused(run: Run, image: str) -> None:
    for command in ("files", "cat", "which"):
        assert "there is no image" in run(command, "other:1", "x", code=1).stderr
