"""The kernels in C (`layerstore-native`), where they are installed.

The core does not need them. Each kernel has a twin in Python, which is the reference: it is slower, and does all that
the kernel declines. This is the only module that imports the kernels.
"""

from __future__ import annotations

import os
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from types import ModuleType

#: The version of the kernels' interface that this version of the core uses.
INTERFACE: Final = 2
#: If this environment variable is `0`, the kernels are not used.
VARIABLE: Final = "LAYERSTORE_NATIVE"


class Engine(NamedTuple):
    """Engine that does the work on many entries.

    Attributes:
        kernels: the extension module; `None`: everything is done in Python.
        reason: why it is so, for a person.
    """

    kernels: ModuleType | None
    reason: str


@cache
def engine() -> Engine:
    """Return the engine that this program uses."""
    if os.environ.get(VARIABLE) == "0":
        return Engine(None, f"the environment variable {VARIABLE} is 0")
    try:
        from layerstore_native import _kernels
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "layerstore_native":
            return Engine(None, "the package layerstore-native is not installed")
        return Engine(None, f"layerstore-native was installed without its kernels, as without a C compiler ({error})")
    found = getattr(_kernels, "INTERFACE", 0)  # those of the first development versions do not have it
    if found != INTERFACE:
        return Engine(
            None,
            f"the kernels of the installed layerstore-native have interface {found}, not {INTERFACE}: "
            "install the version of layerstore-native that belongs to this layerstore-core, or run make in a checkout",
        )
    return Engine(_kernels, "layerstore-native is installed")


def keep_memory() -> None:
    """Let this process keep the memory that it frees, where the kernels can have it so: then it is used again.

    It is for a program that ends after one operation. It has to be called before there are threads.
    """
    kernels = engine().kernels
    if kernels is not None:
        kernels.keep_memory()
