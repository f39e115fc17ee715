"""The digest of a blob is verified, in whichever way the blob is read."""

from __future__ import annotations

import hashlib
import io
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest

from layerstore_core.base.threads import rest
from layerstore_core.errors import InvalidLayer
from layerstore_core.images.transfer.blob import VerifiedBlob

DATA = random.Random(1).randbytes(300_000)


def by_size(blob: VerifiedBlob) -> bytes:
    return b"".join(iter(lambda: blob.read(70_000), b""))


def at_once(blob: VerifiedBlob) -> bytes:
    return blob.read()


def into_a_buffer(blob: VerifiedBlob) -> bytes:
    with io.BufferedReader(blob, 8192) as file:
        return file.read(1000) + file.read()


READERS = pytest.mark.parametrize("read", [by_size, at_once, into_a_buffer])


def opened(tmp_path: Path, data: bytes = DATA) -> BinaryIO:
    (tmp_path / "blob").write_bytes(data)
    return open(tmp_path / "blob", "rb", buffering=0)


@READERS
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_sound_blob_can_be_read(read: Callable[[VerifiedBlob], bytes], algorithm: str, tmp_path: Path) -> None:
    digest = f"{algorithm}:{hashlib.new(algorithm, DATA).hexdigest()}"
    with VerifiedBlob(opened(tmp_path), digest) as blob:
        assert read(blob) == DATA


@READERS
def test_reading_a_damaged_blob_fails(read: Callable[[VerifiedBlob], bytes], tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(DATA).hexdigest()}"
    with VerifiedBlob(opened(tmp_path, DATA[:-1] + b"x"), digest) as blob, pytest.raises(InvalidLayer, match="damaged"):
        read(blob)


def test_a_blob_can_be_read_again_and_leaves_no_thread(tmp_path: Path) -> None:
    rest()
    before = set(threading.enumerate())
    file = opened(tmp_path)
    with VerifiedBlob(file, f"sha256:{hashlib.sha256(DATA).hexdigest()}") as blob:
        assert blob.read(0) == b"", "a read of no bytes is not the end"
        assert by_size(blob) == DATA
        blob.seek(5)
        assert by_size(blob) == DATA[5:]
    with VerifiedBlob(opened(tmp_path), "sha256:00") as unfinished:
        unfinished.read(10)
    rest()
    assert set(threading.enumerate()) == before
    assert file.closed
