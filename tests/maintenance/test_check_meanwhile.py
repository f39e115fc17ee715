"""A check finds nothing wrong with a sound store while other processes create and delete layers and images."""

from __future__ import annotations

import os

import pytest

from layerstore_core.base.kernels import engine
from layerstore_core.maintenance.check import check_store
from tests.images.archives import ImageSpec, docker_archive
from tests.store.layers import BASE, MIDDLE, TOP, register, tar_of
from tests.store.other_process import OtherProcess

#: Other processes that work on the store.
WORKERS = 2
#: How often each process creates and deletes everything.
ROUNDS = 6
#: The least number of checks.
CHECKS = 10

#: The same layers, names and images are created and deleted: what is deleted now is created again a moment later.
WORK = """
import io
from layerstore_core.images import Images
tars = [bytes.fromhex(tar) for tar in tars]
for turn in range(rounds):
    layers = []
    for tar in tars:
        layers.append(store.register(io.BytesIO(tar), layers[-1].chain_id if layers else ""))
    store.pin(layers[-1])
    with store.create_rw_layer(name, layers[-1].chain_id) as rw, rw.mounted() as path:
        open(f"{path}/made", "w").close()
    store.release_rw_layer(store.get_rw_layer(name))
    Images(store).load(archive)
    Images(store).remove(image)
    store.unpin(layers[-1].chain_id)
    for layer in reversed(layers):
        store.release(layer)
"""


@pytest.mark.parametrize("full", [False, True], ids=["quick", "full"])
def test_work_of_other_processes_is_no_finding(store, store_root, driver, tmp_path, full):
    kept = register(store, BASE)
    store.pin(kept)
    many = tar_of({f"many/{n}": b"x" for n in range(60)})  # takes a moment to delete
    workers = [OtherProcess(store_root, driver) for _ in range(WORKERS)]
    try:
        for number, worker in enumerate(workers):
            archive = tmp_path / f"image{number}.tar"
            archive.write_bytes(docker_archive(ImageSpec([TOP, MIDDLE], names=[f"demo:{number}"])))
            tars = [MIDDLE.hex(), many.hex(), tar_of({f"own/{number}": b"own"}).hex()]
            worker.start(
                WORK, tars=tars, rounds=ROUNDS, name=f"box{number}", archive=str(archive), image=f"demo:{number}"
            )
        checks = 0
        while checks < CHECKS or any(not worker.has_answered() for worker in workers):
            assert [str(finding) for finding in check_store(store, full=full)] == []
            checks += 1
        for worker in workers:
            worker.answer()
    finally:
        for worker in workers:
            worker.kill()
            worker.__exit__(None, None, None)
    assert check_store(store, full=True) == []


@pytest.mark.parametrize("content", [b"base\n", b"else\n"], ids=["the same content", "another content"])
def test_a_file_that_is_replaced_after_it_was_read_is_compared_by_its_digest(store, monkeypatch, content):
    """The tar is assembled from the layer's files, so that only other files have to be read again."""
    store.pin(register(store, tar_of({"etc/one": b"base\n", "etc/two": b"two"})))
    check, read = store.driver.check_tree, []

    def replace_and_check(*arguments):
        read.append(arguments)
        if len(read) == 1:
            (path,) = (store.root / store.driver_name).rglob("etc/one")
            new, status = path.with_name("new"), path.stat()
            new.write_bytes(content)
            os.chown(new, status.st_uid, status.st_gid)
            new.chmod(status.st_mode)
            os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
            above = path.parent.stat()
            new.rename(path)
            os.utime(path.parent, ns=(above.st_atime_ns, above.st_mtime_ns))
        return check(*arguments)

    monkeypatch.setattr(store.driver, "check_tree", replace_and_check)
    found = [finding.code for finding in check_store(store, full=True)]
    # Without the kernels no source is known, and the digest of each payload is computed at once.
    again = engine().kernels is not None
    if content == b"base\n":
        assert (found, len(read)) == ([], 1 + again)
        assert check_store(store, full=True) == []
    else:
        # Read once more, the tar cannot be assembled.
        assert found == (["damaged"] if again else ["tree-differs"])
        assert [finding.code for finding in check_store(store, full=True)] == ["damaged"]
