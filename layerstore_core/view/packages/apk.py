"""The database of apk: Alpine and Wolfi. The format is that of apk-tools, "Installed DB"."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Final

from layerstore_core.view.packages.package import (
    MAX_PACKAGES,
    Package,
    open_first,
    read_paragraphs,
    whole_number,
)
from layerstore_core.view.tree import TreeView

#: The second is that of apk-tools 3.
_PATHS: Final = (b"lib/apk/db/installed", b"usr/lib/apk/db/installed")
#: Package, version, architecture, installed size in bytes.
_FIELDS: Final = ("P", "V", "A", "I")


def read_apk(view: TreeView) -> Iterator[Package]:
    """Yield the packages that apk has installed.

    Raises:
        IntegrityError: a layer is damaged.
    """
    file = open_first(view, _PATHS)
    if file is None:
        return
    for fields in islice(read_paragraphs(file, _FIELDS), MAX_PACKAGES):
        if fields.get("P"):
            size = whole_number(fields.get("I", ""))
            yield Package("apk", fields["P"], fields.get("V", ""), fields.get("A", ""), size)
