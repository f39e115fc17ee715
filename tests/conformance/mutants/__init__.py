"""Deliberately broken drivers: small changes over a correct one, each with the group that has to catch it.

The base copies each parent, as the minimal example does, but with `layer_ids`, so that leftovers are seen. Every
mutant's docstring says what is wrong with it. They stand in modules by what they are wrong about.
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
    restart,
    sizes,
    snapshots,
    streams,
)
from tests.conformance.mutants.base import Correct, Mutant

__all__ = ["MUTANTS", "Correct", "Mutant"]

#: By name, in the order of the groups.
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
