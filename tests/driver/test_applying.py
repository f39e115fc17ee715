"""The ways in which a driver may take a layer's tar, and drivers that keep it."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from layerstore_core import IntegrityError, InvalidLayer, hookimpl
from layerstore_core.maintenance.gc import collect_garbage
from tests import tars
from tests.store.drivers import ArchiveDriver, LyingDriver, SmallestDriver, open_with
from tests.store.layers import BASE, export, record_path, register, tree, warm


@pytest.fixture
def root(tmp_path):
    return tmp_path / "store"


class Applying(SmallestDriver):
    """Applies a layer in a way of its own: `how` is a function of the driver's path and the stream."""

    how = None

    @hookimpl
    def apply_diff(self, layer_id, diff):
        return type(self).how(str(self.home / layer_id), diff)


def read_raw(path, diff):
    Path(path, "tar").write_bytes(diff.read())
    return 7


def read_into_tarfile(path, diff):
    import tarfile

    with tarfile.open(fileobj=io.BufferedReader(diff), mode="r|") as tar:
        # Python 3.11.3 and older know no filters.
        tar.extractall(path, **({"filter": "tar"} if hasattr(tarfile, "tar_filter") else {}))
    return 7


def read_partly(path, diff):
    return len(diff.read(100))


def read_nothing(path, diff):
    return 0


def take_one_entry(path, diff):
    next(diff.entries())
    return 1


def take_entries_without_payloads(path, diff):
    return sum(1 for _ in diff.entries())


def unpack(path, diff):
    from layerstore_core import unpack_layer

    return unpack_layer(diff, path)


def lose_a_file(path, diff):
    size = unpack(path, diff)
    os.unlink(f"{path}/bin/sh")
    return size


HOWS = [read_raw, read_into_tarfile, read_partly, read_nothing, take_one_entry, take_entries_without_payloads, unpack]


class TestApplying:
    @pytest.mark.parametrize("how", HOWS)
    def test_whatever_is_read_the_layer_is_whole(self, root, how):
        """Digest, tar-split and size come out of the one pass; content that no file holds stands inline."""
        driver = type("How", (Applying,), {"how": staticmethod(how)})
        with open_with(driver, root) as store:
            layer = register(store, BASE + b"what follows")
            if how in (read_raw, read_into_tarfile, unpack):
                assert export(layer) == BASE + b"what follows"
            else:
                # The files are not there, and the driver has taken the entries without making them: its own fault.
                try:
                    assert export(layer) == BASE + b"what follows"
                except IntegrityError:
                    assert how is not read_partly
            assert layer.diff_id == layer.chain_id

    @pytest.mark.parametrize("how", HOWS)
    def test_a_cut_off_tar_is_found_whoever_reads_it(self, root, how):
        driver = type("How", (Applying,), {"how": staticmethod(how)})
        with open_with(driver, root) as store:
            warm(store)
            before = tree(root)
            with pytest.raises((InvalidLayer, OSError)) as caught:
                register(store, BASE[:3000])
            if how is not read_into_tarfile:
                assert isinstance(caught.value, InvalidLayer)
            assert tree(root) == before

    def test_an_error_that_a_driver_swallows_comes_again(self, root):
        def swallow(path, diff):
            try:
                diff.read()
            except InvalidLayer:
                pass
            return 0

        driver = type("How", (Applying,), {"how": staticmethod(swallow)})
        with open_with(driver, root) as store:
            with pytest.raises(InvalidLayer):
                register(store, BASE[:3000])
            assert store.layers() == {}

    @pytest.mark.parametrize("error", [OSError(5, "no"), RuntimeError("bug"), KeyboardInterrupt()])
    def test_a_driver_that_raises(self, root, error):
        def fail(path, diff):
            diff.read(600)
            raise error

        driver = type("How", (Applying,), {"how": staticmethod(fail)})
        with open_with(driver, root) as store:
            base_before = tree(root)
            with pytest.raises(type(error)):
                register(store, BASE)
            assert store.layers() == {}
            assert collect_garbage(store) == []
            assert not [path for path in tree(root).keys() - base_before.keys() if "write-set" in path]

    def test_both_ways_cannot_be_mixed(self, root):
        def mix(path, diff):
            diff.read(10)
            next(diff.entries())

        driver = type("How", (Applying,), {"how": staticmethod(mix)})
        with open_with(driver, root) as store, pytest.raises(ValueError, match="read as bytes"):
            register(store, BASE)


class TestExactDiffs:
    def test_no_tar_split_is_written(self, root):
        with open_with(ArchiveDriver, root) as store:
            base = register(store, BASE)
            awkward = tars.tar(tars.entry(b"a", b"1"), tars.entry(b"a", b"2"), end=tars.END + b"end")
            top = register(store, awkward, base)
            assert sorted(path.name for path in record_path(top).iterdir()) == ["cache-id", "diff", "parent", "size"]
            assert [export(base), export(top)] == [BASE, awkward]
            assert [layer.diff_size for layer in (base, top)] == [len(BASE), len(awkward)]

    def test_a_driver_that_lies_is_found_out(self, root):
        with open_with(LyingDriver, root) as store:
            layer = register(store, BASE)
            with layer.tar_stream() as stream:
                read = stream.read(len(BASE) - 1)
                assert read == BASE[:-1]
                with pytest.raises(IntegrityError, match=layer.diff_id):
                    stream.read()
            from layerstore_core.maintenance.check import check_store

            assert [finding.code for finding in check_store(store, full=True)] == ["damaged"]

    def test_a_stream_s_file_is_closed(self, root):
        opened = []

        class Watched(ArchiveDriver):
            @hookimpl
            def diff(self, layer_id):
                opened.append(open(self._tar(layer_id), "rb"))  # noqa: SIM115 - the store closes it
                return opened[-1]

        with open_with(Watched, root) as store:
            layer = register(store, BASE)
            layer.tar_stream().close()
            with layer.tar_stream() as stream:
                stream.read(3)
            assert [file.closed for file in opened] == [True, True]

    def test_bad_tars_are_refused_all_the_same(self, root):
        with open_with(ArchiveDriver, root) as store:
            warm(store)
            before = tree(root)
            with pytest.raises(InvalidLayer):
                register(store, BASE[:3000])
            assert tree(root) == before
