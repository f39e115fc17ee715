"""The driver as users have it: the command line, several processes at once, a read-only store, ID mappings."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from layerstore_pool import PoolDriver
from layerstore_pool.options import Options
from loguru import logger

from layerstore_core import DriverContext, DriverNotSupported, LayerStore, StoreConfig, check_store, collect_garbage

from .conftest import tar_of

#: Each content is there twice.
FILES = [(f"d{number % 7}/f{number}", b"content %d" % (number // 2)) for number in range(60)]


def opened(root, *, read_only=False, **settings):
    return LayerStore.open(StoreConfig(root=root, driver="pool", **settings), read_only=read_only)


def command(root):
    return [sys.executable, "-m", "layerstore_core", "--root", root, "--driver", "pool"]


def run(root, *words, code=0):
    """Run a command, and return what it prints; all tars here are text."""
    done = subprocess.run([*command(root), *words], check=False, capture_output=True, text=True)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def write_tar(path, *files):
    path.write_bytes(tar_of(*files).getvalue())
    return path


def test_register_check_repair_remove_and_collect(tmp_path):
    root = tmp_path / "root"
    chains = {}
    for name in ("one", "two"):
        write_tar(tmp_path / name, ("a", b"content"), (name, name.encode()))
        chains[name] = run(root, "register", tmp_path / name).strip()
    pool = root / "pool/pool"
    assert len(os.listdir(pool)) == 3
    assert "Sharing" in run(root, "info")
    (file,) = [path for path in pool.iterdir() if path.read_bytes() == b"content"]
    status = file.stat()
    file.write_bytes(b"c0ntent")
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert str(file) in run(root, "check", "--full", code=1)
    # One layer is made again from its tar. So the pool has a whole file, and heals the other layer with it.
    run(root, "check", "--full", "--repair", "--from", tmp_path / "one")
    run(root, "check", "--full")
    for name, chain in chains.items():
        assert run(root, "export", chain, "-o", "-") == (tmp_path / name).read_text()
    run(root, "rm", *chains.values())
    run(root, "gc")
    assert len(os.listdir(root / "pool/layers")) == 1  # the damaged layer, whose record is in quarantine
    assert sorted(path.stat().st_nlink for path in pool.iterdir()) == [2, 2]


def test_several_processes_register_and_collect_at_once(tmp_path):
    """Whatever the order, each layer has its files, exactly."""
    root = tmp_path / "root"
    tars = [write_tar(tmp_path / f"{number}", *FILES, (f"own{number}", b"own")) for number in range(3)]
    running = [subprocess.Popen([*command(root), "register", tar], stdout=subprocess.PIPE) for tar in tars]
    done = False
    while not done:
        done = all(process.poll() is not None for process in running)
        with opened(root) as store:
            store.cleanup()
    chains = [process.communicate()[0].decode().strip() for process in running]
    assert [process.returncode for process in running] == [0] * 3
    with opened(root) as store:
        for chain, tar in zip(chains, tars, strict=True):
            with store.get(chain).tar_stream() as stream:
                assert stream.read() == tar.read_bytes()
        assert check_store(store, full=True) == []
        for layer in (root / "pool/layers").iterdir():
            assert len({path.stat().st_ino for path in layer.glob("tree/d*/f*")}) == 60


KILLED = """
import os, signal, sys

def count(event, _):
    global left
    if event in ("os.link", "os.rename", "os.remove"):
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

left = int(sys.argv.pop(1))
from layerstore_core.cli.app import cli
import layerstore_pool.sharing
share = layerstore_pool.sharing.Sharing.share

def first(self, file):
    layerstore_pool.sharing.Sharing.share = share
    sys.addaudithook(count)
    share(self, file)

layerstore_pool.sharing.Sharing.share = first
cli()
"""


@pytest.mark.parametrize("calls", [1, 3, 50])
@pytest.mark.parametrize("known", [False, True])
def test_a_process_that_is_killed_while_it_shares_leaves_nothing_after_gc(tmp_path, calls, known):
    """It is killed before the given one of its calls that link, rename or remove a file."""
    root = tmp_path / "root"
    first = FILES if known else [("other", b"other")]
    with opened(root) as store:
        layer = store.register(tar_of(*first))
        store.pin(layer)
        before = sorted(os.listdir(root / "pool/pool"))
    tar = write_tar(tmp_path / "tar", *FILES, ("own", b"own"))
    words = [sys.executable, "-c", KILLED, str(calls), *command(root)[3:], "register", tar]
    assert subprocess.run(words, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert len(os.listdir(root / "pool/layers")) == 2
    with opened(root) as store:
        collect_garbage(store)
        assert sorted(os.listdir(root / "pool/pool")) == before
        assert len(os.listdir(root / "pool/layers")) == 1
        assert check_store(store, full=True) == []
        with store.register(tar_of(*FILES, ("own", b"own"))).tar_stream() as stream:
            assert stream.read() == tar.read_bytes()


def test_a_read_only_store_is_read_and_not_written(tmp_path):
    root = tmp_path / "root"
    with opened(root) as store:
        layer = store.register(tar_of(*FILES))
        store.pin(layer)
        chain = layer.chain_id
    before = sorted((path, path.lstat().st_ctime_ns) for path in (root / "pool").rglob("*"))
    with opened(root, read_only=True) as store:
        with store.get(chain).tar_stream() as stream:
            assert stream.read() == tar_of(*FILES).read()
        assert check_store(store, full=True) == []
        assert store.driver.status()[0] == ("Sharing", "links")
    assert sorted((path, path.lstat().st_ctime_ns) for path in (root / "pool").rglob("*")) == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
def test_ids_are_mapped_and_files_are_shared_by_their_ids_on_disk(tmp_path):
    with opened(tmp_path / "root", uid_map=("0:100000:65536",), gid_map=("0:100000:65536",)) as store:
        trees = []
        for number in (1, 2):
            layer = store.register(tar_of(("a", b"content"), (f"{number}", b"own", {"uid": number})))
            trees.append(Path(store.driver.get(layer.cache_id)))
        assert (trees[0] / "a").stat().st_ino == (trees[1] / "a").stat().st_ino
        assert [(tree / f"{n}").stat().st_uid for n, tree in enumerate(trees, 1)] == [100_001, 100_002]
        assert (trees[0] / "a").stat().st_uid == 100_000
        with layer.tar_stream() as stream:
            assert stream.read() == tar_of(("a", b"content"), ("2", b"own", {"uid": 2})).read()


def test_a_wrong_option_is_refused_with_the_right_ones(tmp_path):
    words = [*command(tmp_path / "root"), "--driver-opt", "sharing=hardlinks", "info"]
    failed = subprocess.run(words, check=False, capture_output=True, text=True)
    assert failed.returncode != 0
    assert "sharing" in failed.stderr
    assert "'auto', 'links' or 'reflinks'" in failed.stderr
    assert "Traceback" not in failed.stderr


def test_a_file_system_without_hard_links_is_refused(tmp_path, monkeypatch):
    def refuse(*_args, **_named):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    context = DriverContext(tmp_path / "home", logger)
    with pytest.raises(DriverNotSupported, match="has no hard links: Operation not permitted; put the store elsewhere"):
        PoolDriver.probe(context)
    with pytest.raises(DriverNotSupported):
        PoolDriver(context)
    assert os.listdir(tmp_path) == []


def test_it_is_chosen_only_by_its_name(tmp_path):
    with LayerStore.open(StoreConfig(root=tmp_path / "root")) as store:
        assert store.driver_name != "pool"


def test_what_few_commands_need_is_not_loaded_with_the_driver():
    code = "import sys, layerstore_pool; print({'pydantic', 'random', 'layerstore_core.unpack'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "set()\n"
    assert Options().sharing == "auto"
