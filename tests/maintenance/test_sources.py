"""A full check reads a file once: what the tar was assembled from is not read again to be compared with the tar."""

from __future__ import annotations

import time
from unittest import mock

import pytest

from layerstore_core.base.kernels import engine
from layerstore_core.maintenance.check import check_store
from layerstore_core.verify import content
from tests import tars
from tests.maintenance.test_repair import codes, files_of
from tests.maintenance.test_trees import flip
from tests.store.layers import MTIME, chain

TAR = tars.tar(
    tars.directory(b"d", mtime=MTIME),
    *[tars.entry(b"d/%d" % number, b"content %d" % number, mtime=MTIME) for number in range(50)],
    tars.hard_link(b"link", b"d/7", mtime=MTIME),
    tars.entry(b"empty", mtime=MTIME),
)


@pytest.mark.skipif(engine().kernels is None, reason=engine().reason)
def test_no_file_that_the_tar_was_assembled_from_is_read_again(store):
    chain(store, TAR)
    read = []
    real = content._digest
    with mock.patch.object(content, "_digest", lambda fd, expected: read.append(expected.size) or real(fd, expected)):
        assert check_store(store, full=True) == []
    assert set(read) <= {0}


def change(path):
    flip(path)


def replace(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data[::-1])


def replace_by_the_same(path):
    data = path.read_bytes()
    path.unlink()
    path.write_bytes(data)


@pytest.mark.parametrize("meanwhile", [change, replace, replace_by_the_same])
def test_a_file_that_changes_after_the_tar_was_assembled_is_read_again(store, meanwhile):
    (layer,) = chain(store, TAR)
    driver = type(store.driver)
    real = driver.check_tree

    def check_tree(self, *arguments):
        time.sleep(0.02)  # times of change are those of the kernel's clock, which ticks every few milliseconds
        path = files_of(store, layer.cache_id) / "d/8"
        status = path.stat()
        meanwhile(path)
        path.chmod(status.st_mode & 0o7777)
        return real(self, *arguments)

    with mock.patch.object(driver, "check_tree", check_tree):
        found = check_store(store, full=True)
    if meanwhile is replace_by_the_same:
        assert not any("content" in str(finding) for finding in found)
    else:
        assert codes(found) == ["damaged"]
        assert "the layer's file 'd/8' is not what was registered" in str(found[0])
