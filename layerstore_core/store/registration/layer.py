"""Register one layer: pass its tar once into the driver and into its record.

The steps are: a transaction begins, which records on disk what the driver is about to create; the driver creates an
empty layer; the tar passes into both; the other fields of the record are written; and the transaction is renamed to
its place. Until then the layer does not exist, and all of it is undone if a step fails.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, Self

from layerstore_core.base import inside
from layerstore_core.base.atomic import FILE_MODE
from layerstore_core.base.digests import DiffID, chain_id
from layerstore_core.base.kernels import engine
from layerstore_core.base.threads import Lane
from layerstore_core.errors import while_doing
from layerstore_core.log import logger
from layerstore_core.records.layer_record import LayerRecord
from layerstore_core.records.layerdb import LayerDB
from layerstore_core.records.transaction import TAR_SPLIT, Transaction
from layerstore_core.store.nodes import ParentLayer
from layerstore_core.streams.source import LayerSource
from layerstore_core.tar.layer_stream import LayerStream
from layerstore_core.tar.scanner import TarScanner
from layerstore_core.tarsplit.codec import LineReader, LineWriter, decode_entries
from layerstore_core.tarsplit.record import Recorder
from layerstore_core.tarsplit.record_lane import RecorderLane

if TYPE_CHECKING:
    from layerstore_core.driver.bound import BoundDriver
    from layerstore_core.store.context import StoreContext

#: Called now and then with the bytes of input read and the entries seen so far.
Progress = Callable[[int, int], None]


class Applied(NamedTuple):
    """The result of unpacking a layer's tar into the driver.

    Attributes:
        diff_id: the sha256 of the uncompressed tar.
        size: the size of the layer's files, in bytes, as the driver counts it.
    """

    diff_id: DiffID
    size: int


class Registration:
    """A layer that is being registered; a context manager that undoes what was not committed.

    Args:
        db: where the record is written.
        driver: where the files are unpacked.
        parent: the parent layer, to which the caller has a handle; `None` for a base layer.

    Attributes:
        cache_id: the driver's ID for the new layer.
    """

    def __init__(self, db: LayerDB, driver: BoundDriver, parent: ParentLayer | None) -> None:
        self._db = db
        self._driver = driver
        self._parent = parent
        self._parent_id = parent.cache_id if parent else ""
        self.cache_id = os.urandom(32).hex()
        self._begun: Transaction | None = None

    def apply(
        self,
        source: LayerSource,
        progress: Progress | None = None,
        await_parents: Callable[[], None] | None = None,
    ) -> Applied:
        """Pass the layer's tar into the driver, and record its tar-split lines.

        Args:
            source: the tar.
            progress: called now and then.
            await_parents: waits until the parent layers are complete; `None` where they are.

        Returns:
            The digest of the tar, and the size of its files.

        Raises:
            InvalidLayer: the tar is damaged, or leaves its root.
        """
        began = time.monotonic()
        with while_doing(f"applying {source.name}"):
            if self._driver.capabilities.reproduces_exact_diffs:
                applied = self._drive(
                    LayerStream(TarScanner(source.read_chunk), None, await_parents, count_implied=source.count_implied),
                    source,
                    progress,
                )
            else:
                applied = self._split(source, progress, await_parents)
        logger.info(
            "applied {}: {}, {} bytes of files, in {:.3f} s",
            source.name,
            applied.diff_id,
            applied.size,
            time.monotonic() - began,
        )
        return applied

    def write_record(self, applied: Applied, descriptor: Mapping[str, Any] | None) -> LayerRecord:
        """Write the layer's record.

        Args:
            applied: the result of `apply`.
            descriptor: an OCI descriptor to keep with the layer.
        """
        parent = self._parent.chain_id if self._parent else None
        record = LayerRecord(
            chain_id=chain_id(applied.diff_id, parent),
            diff_id=applied.diff_id,
            size=applied.size,
            cache_id=self.cache_id,
            parent=parent,
            descriptor=dict(descriptor) if descriptor else None,
        )
        with while_doing(f"writing the record of layer {record.chain_id}"):
            self._transaction.write(record)
        return record

    def commit(self, record: LayerRecord) -> None:
        """Make the layer exist. Its files and its record must be on disk by now.

        Raises:
            FileExistsError: a layer of this chain ID exists already.
        """
        self._transaction.commit(record.chain_id)

    def replace(self, target: Path, set_aside: Callable[[Path], object]) -> None:
        """Replace another layer, which is damaged, by this one. Its files and its record must be on disk by now.

        Args:
            target: the damaged record.
            set_aside: called with the path at which the damaged record is then, to move it away; the layer of the
                driver that the record names stays.
        """
        self._transaction.exchange(target)
        set_aside(self._transaction.path)
        self._transaction.abandon()

    def __enter__(self) -> Self:
        try:
            self._begun = self._db.begin(self.cache_id)
            with while_doing(f"making a layer in {self._driver.home}"):
                self._driver.create(self.cache_id, self._parent_id, {})
        except BaseException:
            self.__exit__()  # a wrapper plugin may fail after the driver has created the layer
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        if self._begun is not None and not self._begun.published:
            self._undo()

    @property
    def _transaction(self) -> Transaction:
        assert self._begun is not None, "used outside of a `with` block"
        return self._begun

    def _undo(self) -> None:
        gone = False
        try:
            self._driver.remove(self.cache_id)
            gone = True
        except Exception as error:  # a driver may raise anything
            logger.error("the driver's layer {} remains: it could not be removed: {}", self.cache_id, error)
        finally:
            if not gone:
                # The transaction stays, as a stale one: it names the driver's layer that is left.
                self._transaction.abandon()
        try:
            self._transaction.cancel()
        except OSError as error:
            logger.error("the transaction {} remains: it could not be removed: {}", self._transaction.path, error)

    def _split(
        self, source: LayerSource, progress: Progress | None, await_parents: Callable[[], None] | None
    ) -> Applied:
        kernels = engine().kernels
        if kernels is None:
            from fastcrc import crc64

            checksum = crc64.go_iso
        else:
            checksum = kernels.crc64
        try:
            with self._transaction.open_tar_split() as file, Lane("layerstore-record") as lane:
                recorder = Recorder(LineWriter(file), checksum)
                listener = recorder if kernels is None else RecorderLane(recorder, lane)
                diff = LayerStream(
                    TarScanner(source.read_chunk),
                    listener,
                    await_parents,
                    count_implied=source.count_implied,
                    save_payloads=source.save_payloads,
                )
                applied = self._drive(diff, source, progress)
            # A driver that read bytes may have done anything with them: ask its files.
            if recorder.displaced or diff.displaced or diff.read_raw:
                self._verify_payloads(source)
            return applied
        except OSError as error:
            if error.filename is None:  # write(2) errors carry no file name
                error.add_note(f"with records in {self._db.path}")
            raise

    def _drive(self, diff: LayerStream, source: LayerSource, progress: Progress | None) -> Applied:
        if progress is not None:
            source.on_progress(lambda count: progress(count, diff.entry_count))
        size = self._driver.apply_diff(self.cache_id, self._parent_id, diff)
        diff.drain()
        return Applied(DiffID.from_hex(source.hexdigest()), size)

    def _verify_payloads(self, source: LayerSource) -> None:
        """Rewrite the tar-split lines so that they hold for the files as they are in the end."""
        from layerstore_core.tarsplit.verify_payloads import verify_payloads  # lazy: few layers replace their own files

        provisional = self._transaction.path / TAR_SPLIT
        verified = self._transaction.path / "tar-split.settled"
        files = self._driver.diff_getter(self.cache_id)
        try:
            with (
                open(verified, "xb", opener=inside.opener) as out,
                LineReader(open(provisional, "rb", opener=inside.opener)) as lines,
            ):
                os.fchmod(out.fileno(), FILE_MODE)
                inlined = verify_payloads(decode_entries(lines.blocks()), files, source.replay(), LineWriter(out))
        finally:
            files.close()
        inside.rename(verified, provisional)
        logger.debug("{} payloads of {} are kept with the tar-split metadata", inlined, source.name)


def open_source(context: StoreContext, stream: BinaryIO | str | os.PathLike[str], *, allow_empty: bool) -> LayerSource:
    """Open a layer's tar, compressed or not.

    Args:
        context: an open store, which has the limits and the directory for temporary files.
        stream: the tar, as a path or a binary file object.
        allow_empty: accept a stream without a byte as an empty layer.

    Raises:
        InvalidLayer: the tar is empty, or its compression is not known.
    """
    return LayerSource(stream, spool_dir=context.scratch_directory(), limits=context.limits, allow_empty=allow_empty)


def apply_to(
    context: StoreContext, ids: tuple[str, str], stream: BinaryIO | str | os.PathLike[str], *, allow_empty: bool = False
) -> int:
    """Unpack a tar into a layer of the driver, and keep nothing of the tar itself.

    Args:
        context: an open store.
        ids: the driver's IDs of the layer and of its parent, `""` for none.
        stream: as for `open_source`; as is `allow_empty`.

    Returns:
        The size of what the tar added, in bytes.
    """
    with open_source(context, stream, allow_empty=allow_empty) as source:
        source.save_payloads()  # nothing is read again, so nothing is spooled
        diff = LayerStream(TarScanner(source.read_chunk), count_implied=source.count_implied)
        size = context.driver.apply_diff(*ids, diff)
        diff.drain()
        return size
