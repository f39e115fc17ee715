"""Mutants: drivers that are broken on purpose, by small changes to a correct one. Each names the group that catches it.

The correct driver copies each parent, as the minimal example does. It also has `layer_ids`, so that the tests see
layers that are left behind. Every mutant's docstring says what is wrong with it. Each module has the mutants of one
group.
"""

from __future__ import annotations

from tests.conformance.mutants import (
    capabilities,
    concurrency,
    content,
    diffs,
    faults,
    lifecycle,
    limits,
    model,
    mounts,
    restart,
    sizes,
    snapshots,
    streams,
)
from tests.conformance.mutants.base import Correct, Mutant

__all__ = ["MUTANTS", "Correct", "Mutant"]

#: The mutants by name, in the order of the groups.
MUTANTS: dict[str, type[Mutant]] = {
    name: value
    for module in (
        lifecycle,
        content,
        snapshots,
        diffs,
        sizes,
        streams,
        restart,
        mounts,
        concurrency,
        faults,
        limits,
        capabilities,
        model,
    )
    for name, value in vars(module).items()
    if isinstance(value, type)
    and issubclass(value, Mutant)
    and value.__module__ == module.__name__
    and not name.startswith("_")
}
