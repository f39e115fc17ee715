"""The class `Snapshots`: a thin face over the operations of this package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, Self

from layerstore_core.base.arguments import check_type
from layerstore_core.records.snapshots import rows
from layerstore_core.snapshots import commit, create, remote, remove
from layerstore_core.snapshots.arguments import check_key, check_labels, updated_labels
from layerstore_core.snapshots.model import Snapshot, SnapshotUsage, snapshot_of
from layerstore_core.snapshots.owner import existing, now, own
from layerstore_core.snapshots.usage import usage_of
from layerstore_core.store.store import LayerStore

if TYPE_CHECKING:
    from sqlite3 import Connection
    from types import TracebackType

    from layerstore_core.driver.mount_spec import MountSpec

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_PARENT: Final = "the key of the parent"


class Snapshots:
    """The snapshots of an open store's driver: layers that an engine writes to, mounts by itself, and commits.

    A snapshot has a key, which the caller chooses. An *active* one is writable; a commit makes it a *committed* one,
    under another key, which can be the parent of others; a *view* shows a committed one, read-only. Each call is
    complete and on disk when it returns, or has changed nothing. If a process is killed in a call, the next one that
    opens the snapshots finishes or undoes it.

    One object at a time has the snapshots of a root and driver. Other processes may use the store, and read the
    snapshots. All methods may be called from several threads. Close it, or use a `with` statement, before the store is
    closed.

    Args:
        store: the store, open for writing.

    Raises:
        SnapshotsInUse: another process, or another object, has them.
        ReadOnlyStore: the store cannot be written.
        BadRecord: the database is damaged; or it is missing, and the driver has layers of snapshots.
    """

    def __init__(self, store: LayerStore) -> None:
        check_type(store, LayerStore, "an open LayerStore")
        self._owner: Final = own(store.context)
        try:
            remove.recover(self._owner)
        except BaseException:
            self._owner.close()
            raise

    def close(self) -> None:
        """Let others have the snapshots. Nothing is removed. A second call does nothing."""
        self._owner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def prepare(self, key: str, parent: str = "", labels: Mapping[str, str] = _NO_LABELS) -> list[MountSpec]:
        """Make an active snapshot.

        With the label `containerd.io/snapshot.ref`, whose value is the chain ID of a layer of the store, and with a
        parent that is the parent of that layer, a committed snapshot of that layer is made instead. It has these labels
        and this parent, and a key of its own; the answer is `SnapshotExists`. The layer stays in the store as long as
        the snapshot exists.

        Args:
            key: its key: 1 to 32,768 bytes of text.
            parent: the key of a committed snapshot, `""` for none.
            labels: its labels.

        Returns:
            How it is mounted.

        Raises:
            SnapshotExists: the key is taken; or there is a committed snapshot of the layer.
            SnapshotDoesNotExist: there is no such parent.
            InvalidSnapshot: the parent is not committed; or key or labels cannot be used.
            OSError: the driver or the disk refuses; nothing of it is left.
        """
        return self._create(key, parent, labels, rows.ACTIVE)

    def view(self, key: str, parent: str = "", labels: Mapping[str, str] = _NO_LABELS) -> list[MountSpec]:
        """Make a view: read-only, and never to be committed. Arguments, answer and errors as `prepare`."""
        return self._create(key, parent, labels, rows.VIEW)

    def mounts(self, key: str) -> list[MountSpec]:
        """Return how an active snapshot or a view is mounted: what `prepare` or `view` has returned.

        Raises:
            SnapshotDoesNotExist: there is no such snapshot.
            WrongSnapshotKind: it is committed.
        """
        self._owner.store.check_writable()
        with self._owner.keys.locking(check_key(key)):
            return create.mounts(self._owner, key)

    def commit(self, name: str, key: str, labels: Mapping[str, str] = _NO_LABELS) -> None:
        """Make an active snapshot a committed one. The program that has mounted it unmounts it before.

        Args:
            name: the key of the committed one.
            key: that of the active one, which does not exist afterwards.
            labels: the labels of the committed one; those of the active one are not kept.

        Raises:
            SnapshotDoesNotExist: there is no snapshot `key`.
            WrongSnapshotKind: it is not active.
            SnapshotExists: the name is taken.
            MaxDepthExceeded: it has more layers below it than the driver can hold.
            OSError: the driver or the disk refuses. The snapshot is still active; it can be committed again.
        """
        self._owner.store.check_writable()
        check_key(name, "the name of a committed snapshot")
        checked = check_labels(labels)
        self._owner.journal.check_room()
        with self._owner.keys.locking(check_key(key), name):
            commit.commit(self._owner, name, key, checked)

    def remove(self, key: str) -> None:
        """Remove a snapshot of any kind. What the driver cannot remove now is left to `cleanup`, and logged.

        Raises:
            SnapshotDoesNotExist: there is no such snapshot.
            SnapshotHasChildren: it is the parent of others.
        """
        self._owner.store.check_writable()
        with self._owner.keys.locking(check_key(key)):
            remove.remove(self._owner, key)

    def stat(self, key: str) -> Snapshot:
        """Return a snapshot.

        Raises:
            SnapshotDoesNotExist: there is no such snapshot.
        """
        self._owner.store.check_open()
        return snapshot_of(self._owner.find(check_key(key)))

    def update(self, key: str, labels: Mapping[str, str], fields: Sequence[str] = ()) -> Snapshot:
        """Change labels.

        Args:
            key: the snapshot.
            labels: the new labels.
            fields: what to change: `labels` for all of them, `labels.NAME` for one, which is removed if `labels` does
                not have it. Empty: all of them.

        Returns:
            The snapshot as it is now.

        Raises:
            SnapshotDoesNotExist: there is no such snapshot.
            InvalidSnapshot: another field is named, or the labels cannot be used.
        """
        self._owner.store.check_writable()
        check_key(key)
        checked = check_labels(labels)
        if isinstance(fields, str):
            raise TypeError(f"fields is a list of names, not one name: {fields!r:.100}")
        self._owner.journal.check_room()

        def change(database: Connection) -> Snapshot:
            row = existing(database, key)
            new = updated_labels(row.labels, checked, fields)
            rows.change(database, row.number, labels=rows.as_json(new), updated=now())
            return snapshot_of(existing(database, key))

        return self._owner.journal.write(change)

    def usage(self, key: str) -> SnapshotUsage:
        """Return what a snapshot takes, without its parents: counted now if it is active, else as it was committed.

        Raises:
            SnapshotDoesNotExist: there is no such snapshot.
        """
        self._owner.store.check_writable()
        with self._owner.keys.locking(check_key(key)):
            return usage_of(self._owner, key)

    def walk(self) -> Iterator[Snapshot]:
        """Yield all snapshots in the order in which they were made, parents before their children.

        No lock is kept between two of them: those that are made or removed meanwhile are yielded or not.
        """
        number = 0
        while True:
            self._owner.store.check_open()
            page = self._owner.journal.read(partial(rows.rows_after, number=number))
            if not page:
                return
            for row in page:
                yield snapshot_of(row)
            number = page[-1].number

    def cleanup(self) -> None:
        """Remove what `remove` has left. What still cannot be removed is logged, and left for the next time."""
        self._owner.store.check_writable()
        remove.finish_all(self._owner)
        self._owner.store.driver.cleanup()

    def _create(self, key: str, parent: str, labels: Mapping[str, str], kind: str) -> list[MountSpec]:
        self._owner.store.check_writable()
        check_key(key)
        check_type(parent, str, f"{_PARENT}, which is text")
        if parent:
            check_key(parent, _PARENT)
        checked = check_labels(labels)
        self._owner.journal.check_room()
        with self._owner.keys.locking(key):
            if kind == rows.ACTIVE:
                remote.offer(self._owner, key, parent, checked)
            return create.create(self._owner, key, parent, checked, kind)
