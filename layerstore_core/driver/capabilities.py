"""What a driver can do beyond the contract's minimum."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Declared by a driver's `capabilities` hook; the defaults claim nothing.

    Attributes:
        reproduces_exact_diffs: `diff` gives back, bit for bit, the tar that `apply_diff` was given.
            The store then keeps no tar-split for the driver's layers.
        max_depth: how many layers a chain may have on this driver, the two of a writable layer left
            out; `None` where the driver knows no limit of its own.
        parallel_apply: `apply_diff` of a layer does not need its parents to be complete, so that the layers of
            one image may be applied at the same time; where it does, it calls the stream's `await_parents` first.
        shares_inodes: a child made by `create` has its parent's files under the same inodes, by hard links. Core's
            `apply_diff` then gives a file an inode of its own before it changes its metadata.
        quota: a writable layer's `size` storage option is enforced.
    """

    reproduces_exact_diffs: bool = False
    max_depth: int | None = None
    parallel_apply: bool = False
    quota: bool = False
    shares_inodes: bool = False
