"""The abilities of a driver beyond the contract's minimum."""

from __future__ import annotations

from typing import NamedTuple


class Capabilities(NamedTuple):
    """The abilities that a driver's `capabilities` hook declares. The defaults declare none.

    Attributes:
        reproduces_exact_diffs: `diff` returns, bit for bit, the tar that `apply_diff` was given. The store then keeps
            no tar-split for the driver's layers.
        max_depth: how many layers a chain may have on this driver, without the two of a writable layer. `None` if the
            driver itself sets no limit.
        parallel_apply: `apply_diff` of a layer does not need complete parents, so the store may apply the layers of one
            image at the same time. An `apply_diff` that needs them for some layer calls the stream's `await_parents`
            first.
        shares_inodes: a child that `create` has created has its parent's files under the same inodes, by hard links.
            The fallback's `apply_diff` then gives a file its own inode before it changes the file's metadata.
        quota: the driver enforces a writable layer's `size` storage option.
    """

    reproduces_exact_diffs: bool = False
    max_depth: int | None = None
    parallel_apply: bool = False
    quota: bool = False
    shares_inodes: bool = False
