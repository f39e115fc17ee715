"""Making images by one more layer: sources and places, owners and times, history, the same ID, and bad input."""

from __future__ import annotations

import errno
import gzip
import io
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from layerstore_core import ConfigOptions, LayerBuilder, LayerStore, check_store, collect_garbage
from layerstore_core.errors import ImageDoesNotExist, InvalidLayer, InvalidReference, InvalidSource, MaxDepthExceeded
from layerstore_core.images import Image, Images
from layerstore_core.images.make import append as module
from layerstore_core.images.make.sources import parse_mode, parse_owner, parse_time, split_source
from tests import tars
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import tar_of

CREATED = "2024-05-06T07:08:09Z"
FIXED = ConfigOptions(created=CREATED)
BASE = tars.tar(
    tars.directory(b"etc"),
    tars.entry(b"etc/passwd", b"root:x:0:0::/:\napp:x:1001:1002::/:\nbad:x:-1:0\n"),
    tars.entry(b"etc/group", b"root:x:0:\nstaff:x:50:\n"),
    tars.directory(b"usr"),
    tars.directory(b"usr/bin", mode=0o711),
    tars.symlink(b"bin", b"usr/bin"),
)


@pytest.fixture
def base(images: Images) -> Image:
    (image,) = images.load(io.BytesIO(docker_archive(ImageSpec([BASE], ["base:1"]))))
    return image


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A directory with sources."""
    here = tmp_path / "sources"
    (here / "tree" / "sub").mkdir(parents=True)
    (here / "app").write_bytes(b"#!/bin/sh\n")
    (here / "app").chmod(0o755)
    (here / "tree" / "sub" / "file").write_bytes(b"file")
    (here / "tree" / "link").symlink_to("/etc/passwd")
    (here / "t.tar.gz").write_bytes(gzip.compress(tar_of({"from-tar": b"tar"})))
    (here / "linked").symlink_to("app")
    for path in (here / "app", here / "tree" / "sub" / "file", here / "tree" / "sub", here / "tree"):
        os.utime(path, (1000, 1000))
    os.utime(here / "tree" / "link", (1000, 1000), follow_symlinks=False)
    return here


def top_layer(store: LayerStore, image: Image) -> dict[str, tarfile.TarInfo]:
    assert image.chain_id is not None
    with store.get(image.chain_id) as layer, layer.tar_stream() as stream:
        return {member.name: member for member in tarfile.open(fileobj=io.BytesIO(stream.read()))}


def test_sources_go_where_add_of_a_dockerfile_puts_them(
    store: LayerStore, images: Images, base: Image, here: Path
) -> None:
    image = images.append(
        "base:1",
        [
            (here / "app", "/bin"),
            (here / "app", "/opt/new/"),
            (here / "app", "/opt/renamed"),
            (here / "tree", "/srv"),
            (here / "t.tar.gz", "/tar"),
            here / "linked",
        ],
        name="app:1",
    )
    assert list(top_layer(store, image)) == [
        "linked", "opt", "opt/new", "opt/new/app", "opt/renamed", "srv", "srv/link", "srv/sub", "srv/sub/file", "tar",
        "tar/from-tar", "usr", "usr/bin", "usr/bin/app",
    ]  # fmt: skip
    assert image.names == ("app:1",)
    assert images.get("app:1") == image
    assert image.diff_ids[:-1] == base.diff_ids
    view = images.view(image)
    with view:
        assert view.find(b"usr/bin")[1].mode == 0o711
        assert view.find(b"srv/link", follow=False)[1].linkname == b"/etc/passwd"
        with view.open(b"bin/app") as file:
            assert file.read() == b"#!/bin/sh\n"


def test_config_and_history_are_those_of_the_base_and_a_step(images: Images, base: Image, here: Path) -> None:
    options = ConfigOptions(created=CREATED, entrypoint=["/bin/app"], message="why", author="me")
    image = images.append(base, [(here / "app", "/bin"), here / "tree"], name="app", config=options)
    document: dict[str, Any] = json.loads(image.config.data)
    old: dict[str, Any] = json.loads(base.config.data)
    assert document["config"] == {"Entrypoint": ["/bin/app"]}
    assert (document["created"], document["author"]) == (CREATED, "me")
    assert document["history"][:-2] == old["history"]
    assert document["history"][-2:] == [
        {"created": CREATED, "author": "me", "created_by": "layerstore append /bin/app /", "comment": "why"},
        {"created": CREATED, "created_by": 'ENTRYPOINT ["/bin/app"]', "empty_layer": True},
    ]
    steps = images.history(image)
    assert [step.layer for step in steps[:3]] == [None, image.chain_id, None]


def test_annotations_are_those_of_the_base_and_the_options(
    store: LayerStore, images: Images, base: Image, here: Path
) -> None:
    first = images.append(base, [here / "app"], config=ConfigOptions(annotations={"a": "1", "b": "2"}))
    made = images.append(first, [(here / "app", "/x")], config=ConfigOptions(annotations={"a": None, "c": "3"}))
    origin = store.context.kept.of_image(made.image_id)
    assert origin is not None
    assert origin.annotations == {"b": "2", "c": "3"}


def test_scratch_is_no_image(store: LayerStore, images: Images, here: Path) -> None:
    image = images.append(None, [(here / "app", "/bin/app")], name="tiny", config=FIXED)
    assert list(top_layer(store, image)) == ["bin", "bin/app"]
    document = json.loads(image.config.data)
    assert document["os"] == "linux"
    assert document["rootfs"]["diff_ids"] == list(image.diff_ids)
    assert len(document["history"]) == 1


def test_owner_mode_and_time_hold_for_everything(store: LayerStore, images: Images, base: Image, here: Path) -> None:
    sources = [(here / "tree", "/srv"), (here / "t.tar.gz", "/srv")]
    image = images.append(base, sources, owner="app:staff", mode=0o750, mtime="1970-01-01T00:00:05Z", config=FIXED)
    for name, member in top_layer(store, image).items():
        assert (member.uid, member.gid, member.mtime) == (1001, 50, 5), name
        assert member.mode == (0o777 if member.issym() else 0o750)


@pytest.mark.needs_root
def test_files_belong_to_root_and_those_of_a_tar_to_their_owners(store: LayerStore, images: Images, here: Path) -> None:
    os.chown(here / "app", 12, 34)
    (here / "o.tar").write_bytes(tars.tar(tars.entry(b"owned", b"", uid=7, gid=8)))
    found = top_layer(store, images.append(None, [here / "app", here / "o.tar"]))
    assert {name: (member.uid, member.gid) for name, member in found.items()} == {"app": (0, 0), "owned": (7, 8)}


def test_the_same_sources_give_the_same_image_wherever_they_are(images: Images, base: Image, here: Path) -> None:
    one = images.append(base, [(here / "tree", "/x"), (here / "app", "/bin/")], config=FIXED)
    moved = here.rename(here.parent / "moved")
    assert images.append(base, [(moved / "tree", "/x"), (moved / "app", "/bin/")], config=FIXED) == one


def test_a_layer_that_was_built_is_appended(store: LayerStore, images: Images, base: Image) -> None:
    with LayerBuilder() as builder:
        builder.add_whiteout("etc/group")
        image = images.append(base, builder, name="less:1", config=FIXED)
    with images.view(image) as view, pytest.raises(FileNotFoundError):
        view.find(b"etc/group")


def test_nothing_to_append_makes_a_step_without_a_layer(images: Images, base: Image, here: Path) -> None:
    (here / "empty").mkdir()
    image = images.append(base, [here / "empty"], config=FIXED)
    assert image.diff_ids == base.diff_ids
    assert json.loads(image.config.data)["history"][-1]["empty_layer"] is True


def test_whiteouts_of_a_tar_delete(images: Images, base: Image, here: Path) -> None:
    (here / "less.tar").write_bytes(tar_of({"etc/.wh.passwd": b"", "usr/.wh..wh..opq": b""}))
    with images.view(images.append(base, [here / "less.tar"])) as view:
        assert [path for path, _ in view.walk()] == [b"", b"bin", b"etc", b"etc/group", b"usr"]


def state(store: LayerStore) -> tuple[Any, ...]:
    context = store.context
    return store.chain_ids(), context.image_db.image_ids(), context.image_db.names(), sorted(context.kept.names())


@pytest.mark.parametrize(
    ("source", "place", "error", "message"),
    [
        ("missing", "/", FileNotFoundError, "missing"),
        ("fifo", "/", InvalidSource, "neither a file nor a directory"),
        ("app", "/../etc/app", InvalidSource, "leave the root"),
        ("app", "/etc/passwd/x", InvalidSource, "is a file"),
        ("app", "/etc/.wh.x", InvalidSource, "means a deletion"),
        ("cut.tar", "/", InvalidLayer, "cut off"),
        ("evil.tar", "/", InvalidSource, "evil.tar: entry '../x': it leaves the root"),
        ("loop", "/", OSError, "Too many levels"),
        ("", "/", InvalidSource, "no source before"),
        ("store", "/", InvalidSource, "root of this store"),
        ("above", "/", InvalidSource, "root of this store"),
    ],
)
def test_bad_sources_leave_the_store_as_it_was(
    store: LayerStore, images: Images, base: Image, here: Path, source: str, place: str, error: Any, message: str
) -> None:
    os.mkfifo(here / "fifo")
    (here / "loop").symlink_to("loop")
    (here / "cut.tar").write_bytes(tar_of({"x": bytes(5000)})[:2000])
    (here / "evil.tar").write_bytes(tar_of({"../x": b""}))
    path = {"": "", "store": str(store.root), "above": str(store.root.parent)}.get(source, str(here / source))
    before = state(store)
    with pytest.raises(error, match=re.escape(message)):
        images.append(base, [(here / "app", "/good"), (path, place)], name="app:1")
    assert state(store) == before


def test_a_source_that_changes_while_it_is_read_is_an_error(
    store: LayerStore, images: Images, base: Image, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = state(store)
    real = module.add_source

    def add_and_change(*arguments: Any) -> str:
        place = real(*arguments)
        (here / "app").write_bytes(b"changed")
        return place

    monkeypatch.setattr(module, "add_source", add_and_change)
    with pytest.raises(OSError, match="it was changed while it was read") as raised:
        images.append(base, [here / "app"], name="app:1")
    assert (raised.value.errno, raised.value.filename) == (errno.ESTALE, str(here / "app"))
    assert state(store) == before


def test_an_unreadable_source_is_an_error(
    images: Images, here: Path, ordinary_user: Callable[[], AbstractContextManager[None]]
) -> None:
    (here / "tree" / "sub" / "file").chmod(0)
    with ordinary_user(), pytest.raises(PermissionError):
        images.append(None, [here / "tree"])


def test_an_error_of_reading_a_source_names_it(images: Images, base: Image) -> None:
    """Address 0 of a process is never mapped: to read its memory there is an error of input and output."""
    with pytest.raises(OSError, match="Input/output error") as raised:
        images.append(base, ["/proc/self/mem"])
    assert raised.value.filename == "/proc/self/mem"


def test_an_image_that_cannot_be_recorded_leaves_no_layer(
    store: LayerStore, images: Images, base: Image, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = state(store)
    monkeypatch.setattr(type(store.context.image_db), "set_names", full)
    with pytest.raises(OSError, match="No space left"):
        images.append(base, [here / "app"], name="app:1")
    monkeypatch.undo()
    assert state(store) == before


def test_a_killed_append_leaves_a_layer_for_gc_and_no_image(open_store: Any, here: Path) -> None:
    store = open_store()
    program = (
        "import os, signal, sys\n"
        "from layerstore_core import Images, LayerStore\n"
        "from layerstore_core.images.make import append\n"
        "append.finish_image = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)\n"
        "with LayerStore.open(root=sys.argv[1], driver='vfs') as store:\n"
        "    Images(store).append(None, [sys.argv[2]], name='app:1')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, store.root, here / "app"], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(store.chain_ids()) == 1
    assert Images(store).all() == []
    assert [item.kind for item in collect_garbage(store)] == ["layer"]
    assert check_store(store) == []
    assert store.chain_ids() == []


def test_wrong_arguments(images: Images, base: Image, here: Path) -> None:
    for sources, kind in (((), InvalidSource), (str(here / "app"), TypeError)):
        with pytest.raises(kind):
            images.append(base, sources)
    with pytest.raises(InvalidReference, match="has a digest"):
        images.append(base, [here / "app"], name="app@sha256:" + "0" * 64)
    with pytest.raises(ImageDoesNotExist):
        images.append("missing:1", [here / "app"])
    for owner in ("nobody", "0:nobody", "bad"):
        with pytest.raises(InvalidSource, match=r"the (user|group) '\w+' of the new owner"):
            images.append(base, [here / "app"], owner=owner)
    with pytest.raises(InvalidSource, match="cannot be read"):
        images.append(None, [here / "app"], owner="app")


def test_a_chain_that_is_as_long_as_it_may_be(open_store: Any, here: Path) -> None:
    store = open_store(max_depth=1)
    images = Images(store)
    base = images.append(None, [here / "app"], name="one")
    with pytest.raises(MaxDepthExceeded):
        images.append(base, [here / "tree"], name="two")
    assert [image.names for image in images.all()] == [("one:latest",)]


def test_words_of_the_command_line(images: Images, base: Image) -> None:
    assert split_source("a:/b") == ("a", "/b")
    assert split_source("a:b:/c/") == ("a:b", "/c/")
    assert split_source("a:b") == ("a:b", "/")
    assert split_source("/a") == ("/a", "/")
    assert [parse_mode(text) for text in ("755", "0644", "4755", "0o600")] == [0o755, 0o644, 0o4755, 0o600]
    for text in ("8", "99", "u+x", "", "7777777", "-755"):
        with pytest.raises(ValueError, match="in octal"):
            parse_mode(text)
    assert parse_time("1970-01-01T00:00:01.000000005Z") == 1_000_000_005
    assert parse_time(5) == 5
    with images.view(base) as view:
        assert [parse_owner(text, view) for text in ("5", "5:6", "app", "app:root")] == [
            (5, 5), (5, 6), (1001, 1001), (1001, 0),
        ]  # fmt: skip
        for text in ("", ":5", "5:", "4294967296"):
            with pytest.raises(ValueError, match=r"not an owner|too large"):
                parse_owner(text, view)


# import


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
@pytest.mark.parametrize("as_path", [True, False])
def test_an_imported_tar_is_the_layer_byte_for_byte(
    store: LayerStore, images: Images, tmp_path: Path, compress: Any, as_path: bool
) -> None:
    (tmp_path / "root.tar").write_bytes(compress(BASE))
    source: Any = tmp_path / "root.tar" if as_path else io.BytesIO(compress(BASE))
    image = images.import_root(source, name="root:1", config=ConfigOptions(created=CREATED, cmd=["sh"]))
    assert image.chain_id is not None
    with store.get(image.chain_id) as layer, layer.tar_stream() as stream:
        assert stream.read() == BASE
    document = json.loads(image.config.data)
    assert document["config"] == {"Cmd": ["sh"]}
    assert document["history"][0] == {"created": CREATED, "created_by": "layerstore import"}


@pytest.mark.needs_root
def test_an_imported_directory_keeps_owners_and_the_root_itself(store: LayerStore, images: Images, here: Path) -> None:
    os.chown(here / "tree" / "sub" / "file", 12, 34)
    (here / "tree").chmod(0o751)
    found = top_layer(store, images.import_root(here / "tree", name="root:1"))
    assert list(found) == [".", "link", "sub", "sub/file"]
    assert (found["."].mode, found["."].mtime) == (0o751, 1000)
    assert (found["sub/file"].uid, found["sub/file"].gid) == (12, 34)


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        (io.BytesIO(b""), InvalidLayer, "empty"),
        (io.BytesIO(b"no tar" * 200), InvalidLayer, "not a tar"),
        (io.BytesIO(tar_of({"../x": b""})), InvalidLayer, "root"),
        ("/nonexistent/x", FileNotFoundError, "nonexistent"),
        ("store", InvalidSource, "root of this store"),
    ],
    ids=["empty", "text", "escape", "missing", "store"],
)
def test_a_bad_root_leaves_the_store_as_it_was(
    store: LayerStore, images: Images, base: Image, source: Any, error: Any, message: str
) -> None:
    before = state(store)
    with pytest.raises(error, match=message):
        images.import_root(store.root if source == "store" else source, name="root:1")
    assert state(store) == before


@pytest.mark.needs_root
def test_what_is_mounted_in_a_directory_is_added_unless_tar_leaves_it_out(images: Images, here: Path) -> None:
    """As `docker build` and `tar` do; the documentation names tar's option as the way to leave it out."""
    tree, packed = here / "tree", here / "tree.tar"
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,mode=750", "tmpfs", tree / "sub"], check=True)
    try:
        (tree / "sub" / "inside").write_bytes(b"mounted")
        subprocess.run(["tar", "--one-file-system", "-C", tree, "-cf", packed, "."], check=True)
        made = [
            images.append(None, [(tree, "/")], name="all:1"),
            images.import_root(tree, name="all:2"),
            images.append(None, [(packed, "/")], name="one:1"),
            images.import_root(packed, name="one:2"),
        ]
    finally:
        subprocess.run(["umount", tree / "sub"], check=True)
    found = []
    for image in made:
        with images.view(image) as view:
            found.append({path: node.mode for path, node in view.walk() if path.startswith(b"sub")})
    assert found == [{b"sub": 0o750, b"sub/inside": 0o644}] * 2 + [{b"sub": 0o750}] * 2
