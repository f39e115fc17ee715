"""Handles: a program's references to a layer (`Layer`) and to a writable layer (`RWLayer`)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, BinaryIO, Self

from layerstore_core.base.arguments import chain_id_in, check_type
from layerstore_core.base.digests import ChainID, DiffID, ImageID
from layerstore_core.errors import IntegrityError, LayerDoesNotExist, LayerNotRetained, MountDoesNotExist
from layerstore_core.log import logger
from layerstore_core.store.mounts.mounting import ReadOnlyMounting

if TYPE_CHECKING:
    from layerstore_core.diff.change import Change
    from layerstore_core.store.context import StoreContext
    from layerstore_core.store.nodes import LayerNode, MountNode
    from layerstore_core.view.tree import TreeView


class Layer(ReadOnlyMounting):
    """A reference to a read-only layer, or a view of one.

    While the handle is open, the layer is not deleted. `store.release(layer)` closes the handle and deletes the layer
    if it was the last reference. `close`, or leaving a `with` block, closes it and deletes nothing. Handles that
    `store.layers()` and `parent` return are views: they are no references.

    Attributes:
        made: the layers that the registration that gave this handle has made, the base first; none of those that were
            there before.
    """

    def __init__(
        self, context: StoreContext, node: LayerNode, *, is_view: bool, made: tuple[ChainID, ...] = ()
    ) -> None:
        self._context = context
        self._node = node
        self._is_view = is_view
        self.made = made

    def __repr__(self) -> str:
        return f"<Layer {self._node.record.chain_id}{' (released)' if self._released else ''}>"

    @property
    def chain_id(self) -> ChainID:
        """The layer's name in the store. It can be read even when the handle is released."""
        return self._node.record.chain_id

    @property
    def diff_id(self) -> DiffID:
        """The sha256 of the layer's uncompressed tar."""
        return self._live.record.diff_id

    @property
    def parent(self) -> Layer | None:
        """A view of the parent, `None` for a base layer."""
        parent = self._live.parent
        return Layer(self._context, parent, is_view=True) if parent else None

    @property
    def parent_id(self) -> ChainID | None:
        """The chain ID of the parent, `None` for a base layer."""
        return self._live.record.parent

    def chain(self) -> list[Layer]:
        """Return the layers of the chain, the base first: views, and at last this handle itself."""
        _, *below = self._live.chain()
        return [*(Layer(self._context, node, is_view=True) for node in reversed(below)), self]

    @property
    def size(self) -> int:
        """The size of the chain up to this layer, in bytes."""
        return self._live.chain_size

    @property
    def diff_size(self) -> int:
        """The size of this layer alone, in bytes."""
        return self._live.record.size

    @property
    def depth(self) -> int:
        """How many layers the chain has."""
        return self._live.depth

    @property
    def cache_id(self) -> str:
        """The driver's ID for the layer."""
        return self._live.record.cache_id

    @property
    def descriptor(self) -> Mapping[str, Any] | None:
        """The OCI descriptor that the layer was registered with, decoded from JSON; `None` if there was none."""
        return self._live.record.descriptor

    @property
    def pinned(self) -> bool:
        """Whether a pin keeps the layer when no process has a handle to it."""
        return self._live.record.chain_id in self._context.pins

    def metadata(self) -> dict[str, str]:
        """Return the driver-specific metadata of the layer."""
        return self._context.driver.metadata(self._live.record.cache_id)

    def tar_stream(self) -> BinaryIO:
        """Open the layer's tar, bit for bit what was registered; to be closed.

        Reading it to the end verifies it: the last read raises `IntegrityError` where the digest
        differs.

        Raises:
            IntegrityError: the stored layer is damaged.
        """
        from layerstore_core.store.export import tar_stream

        return tar_stream(self._context, self._live)

    def copy_tar(
        self,
        write: Callable[[bytes | memoryview], object],
        *,
        in_thread: bool = False,
        progress: Callable[[int], object] | None = None,
    ) -> int:
        """Pass all of the layer's tar, verified, to `write`. This is faster than reading `tar_stream`.

        Args:
            write: called with chunks of about a MiB, which it may not keep.
            in_thread: call it in a thread of its own, which is faster still. The thread is waited for in any case: use
                it only where `write` cannot block for long, as that of a pipe may.
            progress: called with the number of bytes so far.

        Returns:
            The size of the tar, in bytes.

        Raises:
            IntegrityError: the stored layer is damaged; all or some of it has been written by then.
            Exception: what `write` raises.
        """
        from layerstore_core.store.export import copy_tar

        return copy_tar(self._context, self._live, write, in_thread=in_thread, progress=progress)

    def tar_size(self) -> int:
        """Return the size of the tar in bytes; quick where the driver does not keep the tars itself.

        Raises:
            IntegrityError: the stored layer is damaged.
        """
        from layerstore_core.store.export import tar_size

        return tar_size(self._context, self._live)

    def tar_stream_from(self, parent: str) -> BinaryIO:
        """Open a tar of what this layer's tree adds to that of an ancestor; to be closed.

        Args:
            parent: the ancestor's chain ID; `""` for a tar of the whole tree.

        Raises:
            LayerDoesNotExist: `parent` is not an ancestor of the layer.
        """
        from layerstore_core.store.export import diff_of

        node = self._live
        if not parent:
            return diff_of(self._context, (node.record.cache_id, ""), node)
        for ancestor in node.chain():
            if ancestor is not node and ancestor.record.chain_id == parent:
                return diff_of(self._context, (node.record.cache_id, ancestor.record.cache_id), node)
        raise LayerDoesNotExist(f"{parent} is not an ancestor of layer {self.chain_id}: there is no diff between them")

    def view(self, *, close_handle: bool = False) -> TreeView:
        """Return the tree of the layer and all of its parents, to be read without a mount and without root's rights.

        Nothing is read before the tree is used. Keep this handle open as long as the view is used; close the view.

        Args:
            close_handle: close this handle when the view is closed.
        """
        from layerstore_core.store.views import view_of

        return view_of(self._context, self._live, self.close if close_handle else None)

    def close(self) -> None:
        """Close the handle, and leave the layer for `gc` if it was the last reference. A second call does nothing."""
        if not self._is_view:
            _close(self._context, self._node, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def _live(self) -> LayerNode:
        self._context.locks.check_own()
        if self._released:
            raise LayerNotRetained(f"this handle to layer {self.chain_id} was released; get the layer again")
        return self._node

    @property
    def _released(self) -> bool:
        return not self._is_view and self not in self._node.handles


class RWLayer:
    """A reference to a writable layer.

    `store.release_rw_layer(rw)` closes the handle and deletes the writable layer if it was the last reference.
    `close`, or leaving a `with` block, closes it and deletes nothing.
    """

    def __init__(self, context: StoreContext, node: MountNode) -> None:
        self._context = context
        self._node = node

    def __repr__(self) -> str:
        return f"<RWLayer {self._node.record.name!r}{' (released)' if self._released else ''}>"

    @property
    def name(self) -> str:
        """The writable layer's name. It can be read even when the handle is released."""
        return self._node.record.name

    @property
    def parent(self) -> Layer | None:
        """A view of the parent layer, `None` for none."""
        parent = self._live.parent
        return Layer(self._context, parent, is_view=True) if parent else None

    @property
    def image_id(self) -> ImageID | None:
        """The image that the layer was created from, if that is recorded; see `Images.create_rw_layer`."""
        return self._context.rw_images.get(self._live.record.mount_id)

    def mount(self, label: str = "", *, keep: bool = False) -> str:
        """Mount the layer. Call `unmount` once per `mount`.

        Args:
            label: an SELinux label for the mount, `""` for none.
            keep: let it stay mounted when this process ends, until some process calls `unmount`.

        Returns:
            The absolute path of the tree.
        """
        self._context.check_writable()
        with self._content() as node:
            path = self._context.driver.get(node.record.mount_id, label, keep=keep)
        self._context.note_use([node.record.parent])
        logger.info("mounted writable layer {!r} at {}", self.name, path)
        return path

    def unmount(self) -> None:
        """Undo one `mount` of this store; where there is none, one that was made with `keep`."""
        driver, mount_id = self._context.driver, self._live.record.mount_id
        if driver.is_used(mount_id):
            driver.put(mount_id)
        else:
            driver.end_kept_mount(mount_id)
        logger.info("unmounted writable layer {!r}", self.name)

    @contextmanager
    def mounted(self, label: str = "") -> Iterator[str]:
        """Mount the layer for the length of a `with` block, and yield the path."""
        path = self.mount(label)
        try:
            yield path
        finally:
            if not self._context.locks.inherited:
                self.unmount()

    def changes(self) -> list[Change]:
        """Return what the layer changes against its parent (and its init layer), sorted by path."""
        with self._content() as node:
            return self._context.driver.changes(node.record.mount_id, node.driver_parent)

    def size(self) -> int:
        """Return how many bytes the layer takes in addition to its parent."""
        with self._content() as node:
            return self._context.driver.diff_size(node.record.mount_id, node.driver_parent)

    def tar_stream(self) -> BinaryIO:
        """Open a tar of the layer's changes, ready to be registered on its parent; to be closed.

        Without root's rights, the parent's files keep the owners, modes and privileged attributes that they have in the
        parent's tar, and new files belong to user and group 0; see the setting `commit_owner`.
        """
        from layerstore_core.store.export import diff_of

        with self._content() as node:
            return diff_of(self._context, (node.record.mount_id, node.driver_parent), node.parent)

    def apply_diff(self, stream: BinaryIO | str | os.PathLike[str], *, allow_empty: bool = False) -> int:
        """Unpack a layer's tar, compressed or not, into the writable layer.

        Args:
            stream: the tar, as a path or a binary file object.
            allow_empty: accept a stream without a byte as an empty layer.

        Returns:
            The size of what the tar added, in bytes.

        Raises:
            InvalidLayer: the tar is malformed, is empty, or leaves the layer's root.
        """
        from layerstore_core.store.registration.layer import apply_to

        with self._content() as node:
            self._context.check_writable()
            ids = node.record.mount_id, node.driver_parent
            return apply_to(self._context, ids, stream, allow_empty=allow_empty)

    def metadata(self) -> dict[str, str]:
        """Return the driver-specific metadata of the layer, and its `ID`: the name, if the driver gives none."""
        with self._content(with_parent=False) as node:
            fields = dict(self._context.driver.metadata(node.record.mount_id))
        fields.setdefault("ID", self.name)
        return fields

    def close(self) -> None:
        """Close the handle; the writable layer stays. A second call does nothing."""
        _close(self._context, self._node, self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _content(self, *, with_parent: bool = True) -> Iterator[MountNode]:
        """Check the driver's part of the layer, for the length of a block that uses it.

        Args:
            with_parent: whether the block uses its parent, too.

        Raises:
            IntegrityError: the driver has no such layer, or another parent than the record names. After a removal that
                has failed the record stays, so that the removal can be tried again.
        """
        node = self._live
        try:
            if with_parent:
                self._require_parent(node)
            yield node
        except Exception as error:
            if self._context.driver.exists(node.record.mount_id):
                raise
            raise IntegrityError(
                f"the writable layer {self.name!r} is damaged: its record exists, but the {self._context.driver.name} "
                f"driver has no layer {node.record.mount_id}. A removal may have failed halfway; the content is gone. "
                f"Remove it with `layerstore rw rm {self.name}`"
            ) from error

    def _require_parent(self, node: MountNode) -> None:
        from layerstore_core.store.parentage import require_parent

        record, what = node.record, f"the writable layer {self.name!r}"
        require_parent(self._context, record.mount_id, node.driver_parent, what)
        if record.init_id:
            parent = node.parent.record.cache_id if node.parent else ""
            require_parent(self._context, record.init_id, parent, f"the init layer of {what}")

    @property
    def _live(self) -> MountNode:
        self._context.locks.check_own()
        if self._released:
            raise LayerNotRetained(f"this handle to the writable layer {self.name!r} was released; get it again")
        return self._node

    @property
    def _released(self) -> bool:
        return self not in self._node.handles


def _close(context: StoreContext, node: LayerNode | MountNode, handle: Layer | RWLayer) -> None:
    """Close a handle, unless it is closed. In a forked child, to which no handle belongs, do nothing."""
    if not context.locks.inherited:
        context.catalog.close_handle(node, handle)


def open_layer(context: StoreContext, name: ChainID, *, made: tuple[ChainID, ...] = ()) -> Layer | None:
    """Open a handle to a layer; `None` where there is no such layer. `made` is as in `Layer`."""
    return context.catalog.open_layer(name, lambda node: Layer(context, node, is_view=False, made=made))


def open_rw_layer(context: StoreContext, name: str) -> RWLayer | None:
    """Open a handle to a writable layer, whose name the caller has locked; `None` where there is none."""
    return context.catalog.open_mount(name, lambda node: RWLayer(context, node))


def close_layer(context: StoreContext, layer: Layer) -> None:
    """Close a handle to a layer of this store.

    Raises:
        LayerNotRetained: it is closed, is a view, or is another store's.
    """
    check_type(layer, Layer, "a handle to a layer, as get and register give it")
    if layer._context is not context:
        raise LayerNotRetained(f"this handle to layer {layer.chain_id} is another store's, {layer._context.root}")
    if not context.catalog.close_handle(layer._node, layer):
        what = "was released before" if not layer._is_view else "is a view, and no reference"
        raise LayerNotRetained(f"this handle to layer {layer.chain_id} {what}")


def close_rw_layer(context: StoreContext, rw: RWLayer) -> None:
    """Close a handle to a writable layer of this store.

    Raises:
        LayerNotRetained: it is closed, or is another store's.
    """
    if rw._context is not context or not context.catalog.close_handle(rw._node, rw):
        what = "was released before" if rw._context is context else f"is another store's, {rw._context.root}"
        raise LayerNotRetained(f"this handle to the writable layer {rw.name!r} {what}")


def node_of(layer: Layer) -> LayerNode:
    """Return the catalog's entry of a layer, whether the handle is open or not."""
    return layer._node


def live_layer(layer: Layer) -> LayerNode:
    """Return the catalog's entry of a layer whose handle is open, or a view.

    Raises:
        LayerNotRetained: the handle was released.
    """
    return layer._live


def live_rw_layer(rw: RWLayer) -> MountNode:
    """Return the catalog's entry of a writable layer whose handle is open.

    Raises:
        LayerNotRetained: the handle was released.
    """
    return rw._live


def parse_chain_id(layer: object) -> ChainID:
    """Return the chain ID of a layer that is given by a handle or by its chain ID.

    Raises:
        LayerDoesNotExist: the text is not a chain ID.
        TypeError: it is neither a handle nor text.
    """
    try:
        return ChainID(chain_id_in(layer))
    except ValueError as error:
        raise LayerDoesNotExist(f"{error}; `layerstore ls` lists the chain IDs there are") from error


def no_layer(context: StoreContext, layer: str | Layer) -> LayerDoesNotExist:
    """Return the error for a layer that does not exist."""
    return LayerDoesNotExist(
        f"there is no layer {chain_id_in(layer)} in {context.root}; `layerstore ls` lists those there are"
    )


def no_rw_layer(context: StoreContext, name: str) -> MountDoesNotExist:
    """Return the error for a writable layer that does not exist."""
    return MountDoesNotExist(
        f"there is no writable layer {name!r} in {context.root}; `layerstore rw ls` lists those there are"
    )
