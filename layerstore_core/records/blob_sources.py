"""Docker's records of the compressed blobs of layers: their digests, and the repositories of registries that have them.

::

    <root>/image/<driver>/distribution/
        diffid-by-digest/sha256/<hex>       the diff ID of a compressed blob
        v2metadata-by-diffid/sha256/<hex>   [{"Digest": …, "SourceRepository": …, "HMAC": …}], the last one the newest

The format is moby's (`distribution/metadata/v2_metadata_service.go`). Docker reads these records when it pulls and
pushes, and so does this package: a registry that has a blob in one repository puts it into another one without its
bytes. `HMAC` tells with which credentials Docker pushed the blob; it stays empty here, as after a pull of Docker.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from layerstore_core.base import inside
from layerstore_core.base.atomic import replace_file
from layerstore_core.base.digests import DiffID
from layerstore_core.errors import BadRecord
from layerstore_core.log import logger

#: Docker's limit of the entries for one layer.
_MAX_ENTRIES: Final = 50
#: In bytes: more than a full record of Docker takes.
_MAX_RECORD: Final = 64 << 10
_MAX_DIFF_ID: Final = 256
_LONGEST_REPOSITORY: Final = 255
_HEX = re.compile(r"[0-9a-f]{64}", re.ASCII)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class BlobSource:
    """A repository that had a compressed blob of a layer.

    Attributes:
        digest: the digest of the blob, `sha256:…`.
        repository: the repository with its registry, such as `docker.io/library/debian`.
    """

    digest: str
    repository: str


class BlobSources:
    """The records of the compressed blobs of one driver's layers.

    They only save work: one that is missing or damaged is as if the blob had never been seen. Reading writes nothing.
    Changes are made under the lock on the image records (`StoreContext.changing_images`).

    Args:
        path: `<root>/image/<driver>`.
    """

    def __init__(self, path: Path) -> None:
        self._by_digest = path / "distribution" / "diffid-by-digest" / "sha256"
        self._by_layer = path / "distribution" / "v2metadata-by-diffid" / "sha256"

    def diff_id(self, digest: str) -> DiffID | None:
        """Return the layer whose compressed blob has a digest: that was verified; `None` if it is unknown."""
        if not _DIGEST.fullmatch(digest):
            return None
        try:
            return DiffID(inside.read(self._by_digest / digest.removeprefix("sha256:"), _MAX_DIFF_ID).decode("ascii"))
        except (BadRecord, OSError, ValueError):
            return None

    def of(self, diff_id: DiffID) -> list[BlobSource]:
        """Return where the compressed blobs of a layer were seen, the newest first."""
        found = (_source_of(entry) for entry in reversed(self._entries(diff_id)))
        return [source for source in found if source is not None]

    def add(self, diff_id: DiffID, sources: Iterable[BlobSource]) -> None:
        """Record where compressed blobs of a layer were seen. The caller has verified that they are of this layer.

        Args:
            diff_id: the layer.
            sources: the blobs and their repositories, the newest last.

        Raises:
            BadRecord, OSError: it cannot be recorded.
        """
        before = self._entries(diff_id)
        entries, digests = before, dict[str, None]()
        for source in sources:
            digests[source.digest] = None
            same = [one for one in entries if _source_of(one) == source]  # with what Docker has noted
            new = {"Digest": source.digest, "SourceRepository": source.repository, "HMAC": ""}
            entries = [one for one in entries if _source_of(one) != source] + (same[-1:] or [new])
        for digest in digests:
            if self.diff_id(digest) != diff_id:
                self._write(self._by_digest / digest.removeprefix("sha256:"), diff_id.encode())
        if entries != before:
            data = json.dumps(entries[-_MAX_ENTRIES:], separators=(",", ":")).encode()
            self._write(self._by_layer / diff_id.hex, data)

    def keep_only(self, diff_ids: Collection[DiffID]) -> None:
        """Remove the records of all other layers: of those that are gone. Docker leaves them for ever."""
        try:
            for name in filter(_HEX.fullmatch, inside.names(self._by_digest)):
                if self.diff_id(f"sha256:{name}") not in diff_ids:
                    inside.unlink(self._by_digest / name, missing_ok=True)
            for name in filter(_HEX.fullmatch, inside.names(self._by_layer)):
                if DiffID.from_hex(name) not in diff_ids:
                    inside.unlink(self._by_layer / name, missing_ok=True)
        except (BadRecord, OSError) as error:
            logger.warning("records of compressed blobs remain: {}: {}", self._by_digest.parent.parent, error)

    def _entries(self, diff_id: DiffID) -> list[Any]:
        try:
            found = json.loads(inside.read(self._by_layer / diff_id.hex, _MAX_RECORD))
        except (BadRecord, OSError, ValueError, RecursionError):
            return []
        return found[-_MAX_ENTRIES:] if isinstance(found, list) else []

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file and move it to its place; it is not flushed, since nothing depends on it."""
        replace_file(path, content, durable=False)


def _source_of(entry: object) -> BlobSource | None:
    if not isinstance(entry, dict):
        return None
    digest, repository = entry.get("Digest"), entry.get("SourceRepository")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        return None
    if not isinstance(repository, str) or not 0 < len(repository) <= _LONGEST_REPOSITORY:
        return None
    return BlobSource(digest, repository)
