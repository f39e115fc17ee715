"""The packages that the package databases of a tree list: dpkg, apk and rpm.

A database is read from a view, as a file of unknown origin: it is bounded, and what is malformed is left out.
"""

from __future__ import annotations

from layerstore_core.view.packages.apk import read_apk
from layerstore_core.view.packages.dpkg import read_dpkg
from layerstore_core.view.packages.package import Package
from layerstore_core.view.packages.rpm import read_rpm
from layerstore_core.view.tree import TreeView


def read_packages(view: TreeView) -> tuple[Package, ...]:
    """Return the packages that a tree has installed, sorted by system and name.

    Args:
        view: the tree.

    Raises:
        IntegrityError: a layer is damaged.
    """
    return tuple(sorted({*read_dpkg(view), *read_apk(view), *read_rpm(view)}))
