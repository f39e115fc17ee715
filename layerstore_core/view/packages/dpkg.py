"""The database of dpkg: Debian, Ubuntu and images without a package manager that are made of their packages.

The format is that of deb-control(5); the files are those of dpkg-query(1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from layerstore_core.view.packages.package import Package, open_database, read_paragraphs, whole_number
from layerstore_core.view.tree import TreeView

_STATUS: Final = b"var/lib/dpkg/status"
#: Images without dpkg itself, such as distroless, have one file for each package here.
_PARTS: Final = b"var/lib/dpkg/status.d"
_CHECKSUMS: Final = b".md5sums"


def read_dpkg(view: TreeView) -> Iterator[Package]:
    """Yield the packages that dpkg has installed.

    Raises:
        IntegrityError: a layer is damaged.
    """
    paths = [_STATUS]
    try:
        paths += [_PARTS + b"/" + name for name in view.list_directory(_PARTS) if not name.endswith(_CHECKSUMS)]
    except OSError:
        pass
    for path in paths:
        file = open_database(view, path)
        if file is None:
            continue
        for fields in read_paragraphs(file):
            # In a file of its own, a package is installed without a word about that.
            installed = fields.get("Status", "install ok installed").split()[-1:] == ["installed"]
            if installed and fields.get("Package"):
                yield Package(
                    "dpkg",
                    fields["Package"],
                    fields.get("Version", ""),
                    fields.get("Architecture", ""),
                    whole_number(fields.get("Installed-Size", "")) * 1024,
                )
