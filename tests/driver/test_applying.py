"""The ways in which a driver may read a layer's tar, and drivers that return the exact tar."""

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
    """A driver that applies a layer by `how`, a function of the layer's path and the stream."""

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
        # Python 3.11.3 and older have no filters.
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
    def test_a_layer_is_complete_however_its_driver_reads_the_stream(self, root, how):
        """Digest, tar-split and size come from the one pass. Content that is in no file is stored inline."""
        driver = type("How", (Applying,), {"how": staticmethod(how)})
        with open_with(driver, root) as store:
            layer = register(store, BASE + b"trailing bytes")
            if how in (read_raw, read_into_tarfile, unpack):
                assert export(layer) == BASE + b"trailing bytes"
            else:
                # The driver has read entries without creating their files. So the export may fail.
                try:
                    assert export(layer) == BASE + b"trailing bytes"
                except IntegrityError:
                    assert how is not read_partly
            assert layer.diff_id == layer.chain_id

    @pytest.mark.parametrize("how", HOWS)
    def test_a_cut_off_tar_is_found_however_its_driver_reads_the_stream(self, root, how):
        driver = type("How", (Applying,), {"how": staticmethod(how)})
        with open_with(driver, root) as store:
            warm(store)
            before = tree(root)
            with pytest.raises((InvalidLayer, OSError)) as caught:
                register(store, BASE[:3000])
            if how is not read_into_tarfile:
                assert isinstance(caught.value, InvalidLayer)
            assert tree(root) == before

    def test_an_error_that_a_driver_swallows_is_raised_by_the_store(self, root):
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
    def test_an_error_of_apply_diff_leaves_nothing(self, root, error):
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

    def test_a_stream_cannot_be_read_as_bytes_and_as_entries(self, root):
        def mix(path, diff):
            diff.read(10)
            next(diff.entries())

        driver = type("How", (Applying,), {"how": staticmethod(mix)})
        with open_with(driver, root) as store, pytest.raises(ValueError, match="read as bytes"):
            register(store, BASE)


class TestExactDiffs:
    def test_exact_diffs_need_no_tar_split(self, root):
        with open_with(ArchiveDriver, root) as store:
            base = register(store, BASE)
            awkward = tars.tar(tars.entry(b"a", b"1"), tars.entry(b"a", b"2"), end=tars.END + b"end")
            top = register(store, awkward, base)
            assert sorted(path.name for path in record_path(top).iterdir()) == ["cache-id", "diff", "parent", "size"]
            assert [export(base), export(top)] == [BASE, awkward]
            assert [layer.diff_size for layer in (base, top)] == [len(BASE), len(awkward)]

    def test_an_inexact_diff_of_a_driver_that_declares_exact_ones_is_found(self, root):
        with open_with(LyingDriver, root) as store:
            layer = register(store, BASE)
            with layer.tar_stream() as stream:
                read = stream.read(len(BASE) - 1)
                assert read == BASE[:-1]
                with pytest.raises(IntegrityError, match=layer.diff_id):
                    stream.read()
            from layerstore_core.maintenance.check import check_store

            assert [finding.code for finding in check_store(store, full=True)] == ["damaged"]

    def test_closing_an_export_closes_the_diff_of_the_driver(self, root):
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

    def test_damaged_tars_are_refused_for_a_driver_with_exact_diffs(self, root):
        with open_with(ArchiveDriver, root) as store:
            warm(store)
            before = tree(root)
            with pytest.raises(InvalidLayer):
                register(store, BASE[:3000])
            assert tree(root) == before
