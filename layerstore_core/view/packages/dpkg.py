"""The database of dpkg: Debian, Ubuntu and images without a package manager that are made of their packages.

The format is that of deb-control(5); the files are those of dpkg-query(1).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from typing import Final

from layerstore_core.view.packages.package import (
    MAX_DATABASE,
    MAX_PACKAGES,
    Package,
    open_database,
    read_paragraphs,
    whole_number,
)
from layerstore_core.view.tree import TreeView

_STATUS: Final = b"var/lib/dpkg/status"
#: Images without dpkg itself, such as distroless, have one file for each package here.
_PARTS: Final = b"var/lib/dpkg/status.d"
_CHECKSUMS: Final = b".md5sums"
_FIELDS: Final = ("Package", "Status", "Version", "Architecture", "Installed-Size")
#: The states of a package whose files are there (dpkg(1)).
_STATES: Final = frozenset({"installed", "triggers-pending", "triggers-awaited", "half-configured", "unpacked"})


def read_dpkg(view: TreeView) -> Iterator[Package]:
    """Yield the packages that dpkg has installed.

    Raises:
        IntegrityError: a layer is damaged.
    """
    for fields in islice(_paragraphs(view), MAX_PACKAGES):
        # In a file of its own, a package is installed without a word about that.
        state = fields.get("Status", "install ok installed").rpartition(" ")[2]
        if state in _STATES and fields.get("Package"):
            yield Package(
                "dpkg",
                fields["Package"],
                fields.get("Version", ""),
                fields.get("Architecture", ""),
                whole_number(fields.get("Installed-Size", "")) * 1024,
            )


def _paragraphs(view: TreeView) -> Iterator[dict[str, str]]:
    """Yield the paragraphs of all files, which together are no larger than one database can be."""
    paths = [_STATUS]
    try:
        paths += [_PARTS + b"/" + name for name in view.list_directory(_PARTS) if not name.endswith(_CHECKSUMS)]
    except OSError:
        pass
    left = MAX_DATABASE
    for path in paths[:MAX_PACKAGES]:
        file = open_database(view, path, left)
        if file is not None:
            left -= file.seek(0, os.SEEK_END)
            file.seek(0)
            yield from read_paragraphs(file, _FIELDS)
