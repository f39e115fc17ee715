"""Repair what a check has found."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from layerstore_core.base import inside
from layerstore_core.base.digests import ChainID, ImageID
from layerstore_core.errors import BadRecord, LayerStoreError
from layerstore_core.images import Images
from layerstore_core.log import logger
from layerstore_core.maintenance.check_driver import check_home, subject_of
from layerstore_core.maintenance.check_records import leftovers
from layerstore_core.maintenance.finding import Finding
from layerstore_core.maintenance.rebuild import rebuild_layer, register_again
from layerstore_core.maintenance.repair_layer import LayerRepair
from layerstore_core.maintenance.repair_record import damaged_layers, repair_record
from layerstore_core.maintenance.repair_source import RepairSource
from layerstore_core.store.store import LayerStore
from layerstore_core.store.strays import Strays

_OF_HOME: Final = "broken-driver-home"
_LEFTOVERS: Final = ("unfinished-removal", "dead-transaction")
#: Findings that a repair source, or force, may be the remedy of.
_OF_LAYERS: Final = ("damaged", "missing-in-driver", "broken-in-driver", "wrong-parent", "tree-differs")
#: No image record is longer, in bytes.
_LONGEST_RECORD: Final = 64 << 20
#: Findings of a full check only.
_FULL: Final = ("damaged", "tree-differs")

#: Called with each finding that was repaired, and what was done.
OnRepaired = Callable[[Finding, str], None]


class Repair:
    """One repair of a store.

    Args:
        store: an open store.
        source: layers that a user gives; `None` for none.
        force: put into quarantine also what may be the only copy, and remove pins whose layers may only be lost.
        on_repaired: called with each finding that was repaired, and what was done; `None` for no call.
    """

    def __init__(
        self, store: LayerStore, source: RepairSource | None, *, force: bool, on_repaired: OnRepaired | None
    ) -> None:
        self._store = store
        self._source = source
        self._force = force
        self._on_repaired = on_repaired
        self._quarantine = store.context.quarantine
        self._repaired: dict[str, str] = {}
        self._layer_repair = LayerRepair(store, source, [])

    def run(self, findings: list[Finding]) -> list[Finding]:
        """Repair what can be repaired, and return the findings that are left."""
        of_home = self._repair_home([finding for finding in findings if finding.code == _OF_HOME])
        findings = [finding for finding in findings if finding.code != _OF_HOME]
        self._remove_leftovers(findings)
        still_there = {(finding.code, finding.subject) for finding in leftovers(self._store)}
        self._repair_records()
        suspects = [finding.subject for finding in findings if finding.code in _OF_LAYERS]
        self._layer_repair = LayerRepair(
            self._store, self._source, [ChainID(one) for one in suspects if one.startswith("sha256:")]
        )
        for path, done in self._repaired.items():
            self._layer_repair.note_repaired(ChainID.from_hex(Path(path).name), done)
        # Parents first: the child of a damaged layer can be repaired only after it.
        left = []
        for finding in sorted(findings, key=self._order_of):
            try:
                done = self._repair_one(finding, still_there)
            except (LayerStoreError, OSError) as error:
                logger.error("{}: it could not be repaired: {}", finding.subject, error)
                done = ""
            if done:
                if self._on_repaired is not None:
                    self._on_repaired(finding, done)
            else:
                left.append(finding)
        found = list(self._layer_repair.repair_children(self._on_repaired or (lambda _finding, _done: None)))
        left = [*(finding for finding in findings if finding in left), *found]
        still_of_home = self._repair_home(of_home)  # again: a layer that was rebuilt may have what was missing
        if still_of_home != of_home:
            left = [finding for finding in left if not self._is_healed(finding)]
        return [*still_of_home, *left]

    def _is_healed(self, finding: Finding) -> bool:
        """Return whether a layer that could not be repaired is sound since the driver has repaired its home."""
        if finding.code not in _FULL or not finding.subject.startswith("sha256:"):
            return False
        try:
            healed = self._layer_repair.is_sound(ChainID(finding.subject))
        except (LayerStoreError, OSError) as error:
            logger.error("{}: it could not be verified: {}", finding.subject, error)
            return False
        if healed and self._on_repaired is not None:
            self._on_repaired(finding, "it is sound since the driver has repaired its home")
        return healed

    def _repair_home(self, findings: list[Finding]) -> list[Finding]:
        """Have the driver repair its home, and return what it finds there afterwards."""
        if not findings:
            return []
        try:
            done = self._store.driver.repair_home()
        except (LayerStoreError, OSError) as error:
            logger.error("{}: it could not be repaired: {}", self._store.driver.home, error)
            done = []
        left = list(check_home(self._store, full=True))
        repaired = [finding for finding in findings if finding not in left]
        for number, finding in enumerate(repaired):
            if self._on_repaired is not None:
                what = "; ".join(done) or "it is no longer found"
                self._on_repaired(finding, "repaired with the one before" if number else what)
        return left

    def _remove_leftovers(self, findings: list[Finding]) -> None:
        if any(finding.code in _LEFTOVERS for finding in findings):
            self._store.cleanup()

    def _repair_records(self) -> None:
        """Repair damaged records from what is left of them, until no more can be repaired."""
        progress = True
        while progress:
            progress = False
            for path in list(damaged_layers(self._store)):
                done = repair_record(self._store, path)
                if not done and self._source is not None:
                    done = rebuild_layer(self._store, ChainID.from_hex(path.name), self._source)
                if not done and self._force:
                    done = f"its record is now {self._quarantine.put(path, f'layer-{path.name[:12]}')}"
                if done:
                    self._repaired[str(path)] = done
                    progress = True

    def _repair_one(self, finding: Finding, still_there: set[tuple[str, str]]) -> str:
        match finding.code:
            case "unfinished-removal" | "dead-transaction":
                return "" if (finding.code, finding.subject) in still_there else "removed"
            case "dangling-pin":
                return self._of_pin(ChainID(finding.subject))
            case "empty-record":
                with self._store.context.changing_records():
                    inside.rmdir(finding.subject)
                return "removed"
            case "not-a-record":
                return self._move_to_quarantine(Path(finding.subject))
            case "damaged-image":
                return self._load_image(Path(finding.subject).name) or self._quarantine_image(Path(finding.subject))
            case "image-without-config":
                return self._load_image(Path(finding.subject).name)
            case "image-without-layers":
                return self._load_image(ImageID(finding.subject).hex)
            case "unloadable":
                return self._unloadable(finding)
            case "missing-document" | "damaged-document":
                return self._of_document(Path(finding.subject), missing=finding.code == "missing-document")
            case "damaged-blob":
                with self._store.context.changing_images():
                    return self._put_away(Path(finding.subject), "blob")
            case "unreadable-origin":
                return self._of_origin(Path(finding.subject))
            case "damaged-snapshots" | "lost-snapshots":
                return self._of_snapshots(finding)
            case "unfinished-snapshot":
                return self._of_unfinished()
            case _ if finding.code in _OF_LAYERS:
                return self._of_layer(finding)
        return ""

    def _of_pin(self, pin: ChainID) -> str:
        if self._source is not None and (done := register_again(self._store, pin, self._source)):
            return done
        # The driver may still have the layer, and its parent may have no other reference.
        if not self._force and (Strays(self._store.context).ids or self._store.unheld_layers(ignore_unreadable=True)):
            return ""
        self._store.unpin(pin)
        return "the pin is removed"

    def _unloadable(self, finding: Finding) -> str:
        for path, done in self._repaired.items():
            if Path(finding.subject).is_relative_to(path):
                return done
        if Path(finding.subject) in self._store.context.db.displaced():
            return ""
        # Perhaps only its parent was damaged, and is repaired by now.
        if finding.subject not in {problem.path for problem in self._store.load_problems}:
            return "its parent is repaired"
        record = _mount_record(self._store, Path(finding.subject))
        return self._move_to_quarantine(record) if self._force and record is not None else ""

    def _of_layer(self, finding: Finding) -> str:
        if finding.subject.startswith("snapshot "):
            return self._of_snapshots(finding)
        if not finding.subject.startswith("sha256:"):
            return self._of_writable(finding)
        chain = ChainID(finding.subject)
        if self._layer_repair.repair(chain, full=finding.code in _FULL):
            return "; ".join(self._layer_repair.done.get(chain, ())) or "its parent is repaired"
        if self._force:
            with self._store.context.changing_records() as db:
                return self._move_to_quarantine(db.layer_path(chain))
        return ""

    def _of_snapshots(self, finding: Finding) -> str:
        from layerstore_core.maintenance.snapshots import repair  # lazy: few stores have snapshots

        if finding.code in _OF_LAYERS:
            return repair.repair_snapshot_layer(self._store, finding)
        return repair.repair_snapshots(self._store, finding, force=self._force)

    def _of_unfinished(self) -> str:
        from layerstore_core.snapshots.remove import finish_left  # lazy: few stores have snapshots

        finish_left(self._store.context, dry_run=False)
        return "" if any(row.state != "ready" for row in self._store.context.snapshots.rows()) else "removed"

    def _of_writable(self, finding: Finding) -> str:
        name = next((name for name in self._store.rw_layers() if subject_of(name) == finding.subject), None)
        return self._layer_repair.repair_writable(name) if name is not None else ""

    def _load_image(self, image: str) -> str:
        if self._source is None or image not in {image_id.hex for image_id in self._source.images}:
            return ""
        Images(self._store).load(self._source.path, wanted=[image], keep_names=True)
        return f"loaded again from {self._source.path}"

    def _quarantine_image(self, path: Path) -> str:
        with self._store.context.changing_images():
            try:
                inside.read(path, _LONGEST_RECORD)
            except BadRecord:
                pass
            except OSError:
                return ""  # a disk that fails, or a missing permission, says nothing about the content
            return self._move_to_quarantine(path)

    def _of_document(self, path: Path, *, missing: bool) -> str:
        kept = self._store.context.kept
        for image in kept.owners_of(path):
            if done := self._load_image(image.hex):
                return done
        with self._store.context.changing_images():
            if not missing:
                return self._put_away(path, "document")
            if not self._force:
                return ""
            kept.give_up(path)
            return "it is given up: the image will be saved with a new manifest"

    def _of_origin(self, path: Path) -> str:
        kept = self._store.context.kept
        with self._store.context.changing_images():
            if inside.exists(path) and kept.lost() is None:
                done = self._put_away(path, "origin")
                if path == kept.names_path:
                    kept.begin_anew()
                return done
            if not self._force or kept.lost() is None:
                return ""
            kept.begin_anew()
            return "started again, without what was lost"

    def _put_away(self, path: Path, what: str) -> str:
        # Not the whole digest: the name of a damaged image's config ends with one.
        return f"it is now {self._quarantine.put(path, f'{what}-{path.name[:12]}')}"

    def _move_to_quarantine(self, path: Path) -> str:
        return f"it is now {self._quarantine.put(path, path.name)}"

    def _order_of(self, finding: Finding) -> tuple[int, int]:
        """Return a key that sorts layers first, parents before children, and images without layers last."""
        of_layer = finding.code in _OF_LAYERS and finding.subject.startswith("sha256:")
        layer = None
        if of_layer:
            with suppress(LayerStoreError, OSError):  # damaged: it has no depth
                layer = self._store.find(ChainID(finding.subject))
        if layer is not None:
            return 0, layer.depth
        return 2 if finding.code == "image-without-layers" else 1, 0


def _mount_record(store: LayerStore, path: Path) -> Path | None:
    """Return the writable layer's record that contains a damaged file."""
    mounts = store.context.db.path / "mounts"
    return mounts / path.relative_to(mounts).parts[0] if path.is_relative_to(mounts) else None
