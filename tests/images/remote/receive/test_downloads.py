"""Downloads: several at once, divided into ranges, cancelled, and what happens to their files."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

import pytest

from layerstore_core.images.remote.receive import downloads as module
from layerstore_core.images.remote.receive.download import Blob, Body, Download
from layerstore_core.images.remote.receive.downloads import Downloads, DownloadStopped
from layerstore_core.images.remote.receive.partial_file import PartialFile
from layerstore_core.registry import NotInRegistry, Registry, RegistryUnavailable
from tests.images.archives import sha256
from tests.images.remote.published import noise
from tests.registry.fake_registry import FakeRegistry

pytestmark = pytest.mark.usefixtures("nothing_left_open")


@contextmanager
def downloading(
    fake: FakeRegistry, directory: Path, *contents: bytes, connections: int = 3
) -> Iterator[tuple[Downloads, list[Blob]]]:
    blobs = [Blob(sha256(content), len(content)) for content in contents]
    with (
        Registry(fake.host) as registry,
        Downloads(
            directory,
            blobs,
            lambda blob, start, end: registry.blob("app", blob.digest, start=start, end=end),
            fake.host,
            connections=connections,
        ) as downloads,
    ):
        downloads.start()
        yield downloads, blobs


def read(downloads: Downloads, blob: Blob) -> bytes:
    with downloads.open(blob.digest, "blob") as file:
        return file.read()


def path_of(directory: Path, content: bytes) -> Path:
    return directory / sha256(content).replace(":", "/")


def test_blobs_are_read_while_they_are_received(fake: FakeRegistry, tmp_path: Path) -> None:
    contents = [noise(number, 500_000) for number in range(5)]
    for content in contents:
        fake.add_blob("app", content)
    with downloading(fake, tmp_path, *contents) as (downloads, blobs):
        assert [read(downloads, blob) for blob in blobs] == contents
        assert [one.state for one in downloads.all] == ["done"] * 5
        downloads.remove()
    assert list(tmp_path.rglob("*")) == [tmp_path / "sha256"]


def test_few_files_are_open_at_once(fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_OPEN", 2)
    contents = [noise(number, 30_000) for number in range(8)]
    for content in contents:
        fake.add_blob("app", content)
    with downloading(fake, tmp_path, *contents) as (downloads, blobs):
        begun = []
        for blob, content in zip(blobs, contents, strict=True):
            assert read(downloads, blob) == content
            begun.append(sum(one.begun == "downloading" and not one.file.resting for one in downloads.all))
        assert max(begun) <= 2
        assert [one.state for one in downloads.all] == ["done"] * 8
        assert [read(downloads, blob) for blob in blobs] == contents
        path_of(tmp_path, contents[3]).unlink()
        with pytest.raises(OSError, match="another process has removed what was received; pull again"):
            read(downloads, blobs[3])
        assert not downloads.can_give(blobs[3].digest)
        assert downloads.can_give(blobs[4].digest)
        downloads.give(blobs[4].digest, tmp_path / "given")
        downloads.remove()
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["given", "sha256"]
    assert (tmp_path / "given").read_bytes() == contents[4]


def test_a_blob_that_is_read_is_begun_although_many_files_are_open(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPEN", 2)
    contents = [noise(number, 30_000) for number in range(6)]
    for content in contents:
        fake.add_blob("app", content)
    with downloading(fake, tmp_path, *contents) as (downloads, blobs):
        assert read(downloads, blobs[5]) == contents[5]


def test_a_file_can_be_read_again(fake: FakeRegistry, tmp_path: Path) -> None:
    content = noise(1, 100_000)
    fake.add_blob("app", content)
    with downloading(fake, tmp_path, content) as (downloads, (blob,)), downloads.open(blob.digest, "blob") as file:
        assert file.read(10) + file.read() == content
        assert (file.seek(50), file.read(10)) == (50, content[50:60])
        assert (file.seek(-5, os.SEEK_END), file.read(), file.read(1)) == (len(content) - 5, content[-5:], b"")
        buffer = bytearray(20)
        file.seek(0)
        assert (file.readinto(buffer), buffer) == (20, content[:20])


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    """Divide small ranges, too, and at once."""
    monkeypatch.setattr(module, "_WORTH_BYTES", 100_000)
    monkeypatch.setattr(module, "_WORTH_SECONDS", 0.05)
    monkeypatch.setattr(module, "_MEASURED", 0.02)


@pytest.mark.usefixtures("eager")
def test_a_free_connection_takes_half_of_what_is_left(fake: FakeRegistry, tmp_path: Path) -> None:
    content = noise(1, 3_000_000)
    fake.add_blob("app", content)
    fake.faults.on("GET .*/blobs/").slow(50_000, 0.02)
    with downloading(fake, tmp_path, content) as (downloads, (blob,)):
        assert read(downloads, blob) == content
        assert downloads.all[0].fetched >= len(content)
    ranges = [request.headers.get("Range") for request in fake.log.all("GET .*/blobs/")]
    assert ranges.count(None) == 1  # perhaps not the first that the server has noted
    assert len(ranges) > 2


@pytest.mark.usefixtures("eager")
def test_a_server_without_ranges_goes_on_with_what_it_has_begun(fake: FakeRegistry, tmp_path: Path) -> None:
    content = noise(1, 3_000_000)
    fake.add_blob("app", content)
    fake.faults.on("GET .*/blobs/").slow(50_000, 0.02).ignore_range()
    with downloading(fake, tmp_path, content) as (downloads, (blob,)):
        assert read(downloads, blob) == content
    assert 2 <= fake.log.count("GET .*/blobs/") <= 3
    # The server may note the first request last. The others were ended at once.
    *ended, whole = sorted(request.sent for request in fake.log.all("GET .*/blobs/"))
    assert whole == len(content)
    assert max(ended) < len(content) // 2


@pytest.mark.usefixtures("eager")
def test_ranges_that_were_received_are_not_asked_for_again(fake: FakeRegistry, tmp_path: Path) -> None:
    content = noise(1, 300_000)
    fake.add_blob("app", content)
    file = PartialFile(path_of(tmp_path, content), len(content))
    assert file.try_lock()
    for start, end in ((0, 50_000), (100_000, 200_000)):
        file.write_at(start, content[start:end])
        file.add(start, end)
    file.close()
    with downloading(fake, tmp_path, content) as (downloads, (blob,)):
        assert read(downloads, blob) == content
        assert downloads.all[0].fetched == 150_000
    # On a slow machine a free connection takes a part of what is left.
    asked = [re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers["Range"]) for request in fake.log.all("GET .*/blobs/")]
    ranges = sorted((int(match[1]), int(match[2] or 299_999)) for match in asked if match)
    assert len(ranges) == len(asked)
    assert {start for start, _ in ranges} >= {50_000, 200_000}
    assert all(50_000 <= start < end < 100_000 or 200_000 <= start < end for start, end in ranges)


def test_readers_end_when_the_downloads_are_cancelled(fake: FakeRegistry, tmp_path: Path) -> None:
    content = noise(1, 1_000_000)
    fake.add_blob("app", content)
    fake.faults.on("GET .*/blobs/").slow(20_000, 0.05)
    with downloading(fake, tmp_path, content) as (downloads, (blob,)), downloads.open(blob.digest, "blob") as file:
        assert file.read(10) == content[:10]
        downloads.cancel()
        with pytest.raises(DownloadStopped):
            file.read()
    assert path_of(tmp_path, content).exists()


def test_the_failure_of_one_blob_ends_the_others(fake: FakeRegistry, tmp_path: Path) -> None:
    content = noise(1, 1_000_000)
    fake.add_blob("app", content)
    fake.faults.on("GET .*/blobs/").slow(20_000, 0.05)
    with downloading(fake, tmp_path, content, b"missing") as (downloads, (blob, _)), pytest.raises(NotInRegistry):
        read(downloads, blob)


def test_a_server_that_sends_next_to_nothing_does_not_hold_a_pull_for_ever(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STALLED", 0.3)
    monkeypatch.setattr(module, "_LOOK", 0.05)
    content = noise(1, 100_000)
    fake.add_blob("app", content)
    fake.faults.on("GET .*/blobs/").slow(100, 0.05)
    with downloading(fake, tmp_path, content) as (downloads, (blob,)):
        with pytest.raises(RegistryUnavailable, match=r"less than 16384 bytes came in 0 s"):
            read(downloads, blob)
        fake.close()


def test_an_error_of_the_one_who_is_told_of_progress_is_passed_on(fake: FakeRegistry, tmp_path: Path) -> None:
    content = noise(1, 100_000)
    fake.add_blob("app", content)

    def changed(download: Download) -> None:
        if download.received:
            raise ZeroDivisionError

    blob = Blob(sha256(content), len(content))
    with Registry(fake.host) as registry:

        def fetch(blob: Blob, start: int, end: int | None) -> Body:
            return registry.blob("app", blob.digest, start=start, end=end)

        with Downloads(tmp_path, [blob], fetch, fake.host, changed=changed) as downloads:
            downloads.start()
            with pytest.raises(ZeroDivisionError):
                read(downloads, blob)


def test_a_file_is_not_closed_while_it_is_read(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that fails ends all downloads, while another one may read what has arrived."""
    content = noise(1, 100_000)
    fake.add_blob("app", content)
    read_at = PartialFile.read_at

    def read_after_the_end(self: PartialFile, position: int, count: int) -> bytes:
        downloads.close()
        return read_at(self, position, count)

    with downloading(fake, tmp_path, content) as (downloads, (blob,)):
        read(downloads, blob)
        monkeypatch.setattr(PartialFile, "read_at", read_after_the_end)
        with downloads.open(blob.digest, "a layer") as file:
            assert file.read(1000) == content[:1000]
    file_after = PartialFile(path_of(tmp_path, content), len(content))
    assert file_after.try_lock(), "it was not closed after the read"
    file_after.close()


def test_a_disk_that_becomes_full_is_an_error_that_names_the_directory(
    fake: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = noise(1, 500_000)
    fake.add_blob("app", content)
    write_at = PartialFile.write_at

    def full(self: PartialFile, position: int, data: bytes | memoryview) -> None:
        if position < len(content) and position + len(data) > 300_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_at(self, position, data)

    monkeypatch.setattr(PartialFile, "write_at", full)
    with (
        downloading(fake, tmp_path, content) as (downloads, (blob,)),
        pytest.raises(OSError, match="No space left") as caught,
    ):
        read(downloads, blob)
    assert caught.value.filename == str(tmp_path)
    assert "what has arrived is kept" in caught.value.__notes__[0]
    monkeypatch.undo()
    file = PartialFile(path_of(tmp_path, content), len(content))
    assert file.try_lock()
    assert file.received > 100_000
    file.close()


def test_a_file_that_is_locked_is_waited_for(fake: FakeRegistry, tmp_path: Path) -> None:
    content = noise(1, 100_000)
    states: list[str] = []
    once = Lock()
    other = PartialFile(path_of(tmp_path, content), len(content))
    assert other.try_lock()

    def changed(download: Download) -> None:
        states.append(download.state)
        if download.state == "elsewhere" and once.acquire(blocking=False):  # the reader may see it, too
            other.write_at(0, content)
            other.add(0, len(content))
            other.remove()

    blob = Blob(sha256(content), len(content))
    with Downloads(tmp_path, [blob], lambda *_: pytest.fail("it is received"), fake.host, changed=changed) as downloads:
        downloads.start()
        assert read(downloads, blob) == content
    assert "elsewhere" in states


def test_damaged_files_are_removed(fake: FakeRegistry, tmp_path: Path) -> None:
    good, bad = noise(1, 100_000), noise(2, 100_000)
    for content in (good, bad):
        fake.add_blob("app", content)
    fake.faults.on(f"GET .*/{sha256(bad)}").flip_byte(5)
    with downloading(fake, tmp_path, good, bad) as (downloads, blobs):
        for blob in blobs:
            read(downloads, blob)
        assert downloads.remove_damaged() == [sha256(bad)]
    assert [path_of(tmp_path, content).exists() for content in (good, bad)] == [True, False]


def test_no_blobs(fake: FakeRegistry, tmp_path: Path) -> None:
    with downloading(fake, tmp_path) as (downloads, _):
        assert downloads.all == []
        assert downloads.remove_damaged() == []


def test_a_read_takes_no_more_memory_than_a_piece(fake: FakeRegistry, tmp_path: Path) -> None:
    content = bytes(4 * module.PIECE)
    fake.add_blob("app", content)
    with downloading(fake, tmp_path, content) as (downloads, (blob,)), downloads.open(blob.digest, "blob") as file:
        file.seek(len(content) - 1)
        assert file.read(1)
        while not downloads.all[0].file.complete:
            time.sleep(0.01)
        file.seek(0)
        assert len(file.read(len(content))) == module.PIECE
