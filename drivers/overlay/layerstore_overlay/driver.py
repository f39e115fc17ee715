"""The driver: the hooks of `layerstore_core.driver.hookspecs`, implemented by overlayfs."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, BinaryIO, Final, cast

# Names that few commands need are used as `layerstore_core.<name>`: the package loads them at their first use. Modules
# of this driver that few hooks need are imported in these hooks: to load them all took half of a short command.
import layerstore_core
from layerstore_core import Capabilities, MountSpec, hookimpl
from layerstore_core.errors import ConfigError, DriverNotSupported, MaxDepthExceeded
from layerstore_core.sdk import inside
from layerstore_overlay.chain import LowerChains
from layerstore_overlay.features import Features, remove_stale_trial_directories
from layerstore_overlay.instructions import overlay_mount
from layerstore_overlay.layout import LINKS, Layout
from layerstore_overlay.lowers import USER
from layerstore_overlay.mount import Mounter, MountMethod, OverlaySpec
from layerstore_overlay.mounts import is_mount_point, mounted_type, unmount_all, unmount_below
from layerstore_overlay.quota import ProjectQuota
from layerstore_overlay.storage_opt import layer_size, refuse_unknown

if TYPE_CHECKING:
    from layerstore_core import Change, DriverContext, LayerStream, TreeFiles
    from layerstore_core.sdk import Difference, LayerEntry
    from layerstore_overlay.native import NativeChanges

#: The kernel's limit of lower layers (OVL_MAX_STACK), less one: a writable layer has an init layer as its parent.
_MAX_DEPTH: Final = 499
#: The number of layers that fits into one page of options in any case, each as `l/` and 26 characters.
_MAX_DEPTH_CLASSIC: Final = 125


class OverlayDriver:
    """A driver that keeps each layer's own files in a directory, and merges them by overlayfs.

    On disk, all is as Docker's overlay2 has it.

    Args:
        context: the surroundings of this instance.
        mount_method: how to mount; tests choose the older way.

    Raises:
        DriverNotSupported: overlays cannot be mounted in the driver's home, or a size limit is configured and the file
            system cannot limit sizes.
    """

    contract = 1
    driver_name = "overlay2"
    #: The highest: chosen before the others if it works, as in Docker.
    priority = 100
    #: An ordinary user may mount an overlay as root of a user namespace (Linux 5.11).
    user_namespace = True
    Options = "layerstore_overlay.options:Options"

    def __init__(self, context: DriverContext, *, mount_method: MountMethod = MountMethod.AUTO) -> None:
        self._log = context.logger
        self._id_mapping = context.id_mapping
        # The default size limit of a writable layer, in bytes.
        options = context.options
        if options and isinstance(options, Mapping):  # from code that makes a driver without a store
            from layerstore_overlay.options import Options

            options = Options.model_validate(options)
        self._size: Final[int | None] = options.size if options else None
        # The root may be reached through links; nothing below it is.
        home = os.path.join(os.path.realpath(context.home.parent), context.home.name)
        self._layout = Layout(home, context.id_mapping.root_pair())
        if not inside.is_directory(home):
            # If overlays do not work here, no directory is made.
            Features(os.path.realpath(context.nearest_directory()), mount_method).require()
            self._layout.prepare()
        self._features = Features(home, mount_method)
        #: Why no overlay can be mounted here. Even then, existing layers can be read.
        self._cannot_mount = self._why_not()
        if self._cannot_mount is None:
            self._layout.prepare()
        if self._layout.foreign_owner is not None:
            self._xattrs = USER
        else:
            self._xattrs = self._features.xattrs_to_read if self._cannot_mount else self._features.xattrs
        self._mounter = Mounter(home, mount_method)
        read_only = context.read_only or self._cannot_mount is not None
        self._chains = LowerChains(self._layout, self._xattrs, read_only=read_only)
        self._quota = ProjectQuota(home)
        _require_quota(self._size, self._quota)

    def _why_not(self) -> DriverNotSupported | None:
        owner = self._layout.foreign_owner
        if owner is not None:
            error = DriverNotSupported(
                f"{self._layout.home} belongs to user {owner}, who has made its layers in a user namespace: their "
                f"owners and marks have their meaning there alone. Run the command as user {owner}"
            )
            self._log.info("layers can be read, but not created or mounted: {}", error)
            return error
        try:
            self._features.require()
        except DriverNotSupported as error:
            if not inside.is_directory(self._layout.path(LINKS)) or not self._layout.layer_ids():
                raise
            self._log.info("layers can be read, but not created or mounted: {}", error)
            return error
        return None

    def _require_mounts(self) -> None:
        """Raise `DriverNotSupported` if no overlay can be mounted."""
        if self._layout.foreign_owner is not None:
            raise DriverNotSupported(f"layers can only be read here: {self._cannot_mount}")
        if self._cannot_mount is not None:
            raise DriverNotSupported(
                f"the layers of overlay2 here can be read, but this needs a mount: {self._cannot_mount}"
            )

    @classmethod
    def probe(cls, context: DriverContext) -> None:
        """Raise `DriverNotSupported` if overlays cannot be mounted, or not with the configured size limit."""
        directory = os.path.realpath(context.nearest_directory())
        Features(directory).require()
        _require_quota(context.options.size if context.options else None, ProjectQuota(directory))

    @hookimpl
    def create(self, layer_id: str, parent_id: str, storage_opt: Mapping[str, str]) -> None:
        refuse_unknown(storage_opt)
        self._create(layer_id, parent_id, None, complete=False)

    @hookimpl
    def create_read_write(
        self, layer_id: str, parent_id: str, mount_label: str, storage_opt: Mapping[str, str]
    ) -> None:
        if mount_label and not parent_id:
            raise ConfigError(
                "overlay2 sets a mount label by an option of the overlay, and a writable layer without a parent has "
                "none; leave the mount label out, or create the layer on a parent"
            )
        size = layer_size(storage_opt, self._size)
        if size is not None and self._quota_missing:
            raise ConfigError(f"storage option size: {self._quota_missing}")
        self._create(layer_id, parent_id, size, complete=True)

    def _create(self, layer_id: str, parent_id: str, size: int | None, *, complete: bool) -> None:
        self._require_mounts()
        lower = self._layout.lower_for_child(parent_id) if parent_id else []
        if len(lower) > _MAX_DEPTH + 1:
            raise MaxDepthExceeded(
                f"the layer would have {len(lower)} lower layers; overlayfs mounts at most {_MAX_DEPTH + 1}"
            )
        self._layout.make_directory(layer_id)
        try:
            if size is not None:
                self._quota.limit(self._layout.path(layer_id), size)
            self._layout.fill_directory(layer_id, lower)
            if parent_id:
                self._chains.begin(layer_id, complete=complete)
                # Last: a marked parent cannot be written to any more, even if the creation of its child fails.
                self._layout.commit(parent_id)
        except BaseException:
            self._delete(layer_id)
            raise

    @hookimpl
    def remove(self, layer_id: str) -> None:
        if layer_id == LINKS or not inside.exists(self._layout.path(layer_id)):
            return
        unmount_all(self._layout.path(layer_id, "merged"))
        self._delete(layer_id)

    def _delete(self, layer_id: str) -> None:
        if not self._quota_missing:
            self._quota.release(self._layout.path(layer_id))
        try:
            self._layout.remove(layer_id)
        except OSError as error:
            # A file system is mounted inside. (Mounts that leaked into other namespaces do not prevent the removal.)
            if error.errno != errno.EBUSY or not unmount_below(self._layout.path(layer_id)):
                raise
            self._layout.remove(layer_id)

    @hookimpl
    def get(self, layer_id: str, mount_label: str) -> str:
        self._layout.require(layer_id)
        if not self._layout.lower(layer_id):
            if mount_label:
                raise ConfigError(
                    f"layer {layer_id} has no parent, so it is used without a mount, which alone could have the label "
                    f"{mount_label!r}; leave the mount label out"
                )
            return self._layout.path(layer_id, "diff")
        merged = self._layout.path(layer_id, "merged")
        if is_mount_point(merged):
            kind = mounted_type(merged)
            if kind == "overlay":
                self._log.debug("{} is mounted already", merged)
                return merged
            raise OSError(errno.EBUSY, f"another file system ({kind}) is mounted there; unmount it", merged)
        spec = self._spec(layer_id, mount_label)
        self._layout.make_merged(layer_id)
        try:
            self._mounter.mount(spec, os.path.join(layer_id, "merged"))
        except BaseException:
            self._remove_merged(merged)
            raise
        return merged

    def _spec(self, layer_id: str, mount_label: str) -> OverlaySpec:
        """Return how to mount a layer that has a parent."""
        self._require_mounts()
        options = list(self._features.base_options)
        if mount_label:
            options.append(("context", mount_label))
        own = os.path.join(layer_id, "diff")
        lower = [
            os.path.relpath(path, self._layout.home)
            for path in self._layout.resolve_all(self._chains.shown_lowers(layer_id))
        ]
        if not lower:
            lower = [self._layout.make_empty(layer_id)]
        # Two overlays must not write to one directory. Another program may have mounted a layer that was given away.
        if self._layout.is_committed(layer_id) or self._layout.is_given(layer_id):
            return OverlaySpec([own, *lower], options=tuple(options))
        return OverlaySpec(lower, own, os.path.join(layer_id, "work"), tuple(options))

    @hookimpl
    def mounts(self, layer_id: str, read_only: bool) -> list[MountSpec]:
        self._layout.require(layer_id)
        if not read_only and self._layout.is_committed(layer_id):
            path = self._layout.path(layer_id)
            raise OSError(errno.EROFS, "the layer is sealed or has children; it can only be mounted read-only", path)
        own = os.path.join(layer_id, "diff")
        if not self._layout.lower(layer_id):
            return [MountSpec.bind(os.path.join(self._layout.home, own), read_only=read_only)]
        self._require_mounts()
        lower = self._chains.shown_lowers(layer_id)
        self._layout.resolve_all(lower)  # raises an error if a short name leads elsewhere: the kernel follows it
        if not lower:
            lower = [self._layout.make_empty(layer_id)]
        options = self._features.base_options
        if read_only:
            link = self._layout.link(layer_id)
            known = self._layout.leads_to(os.path.basename(link), layer_id)
            return [overlay_mount(self._layout.home, OverlaySpec([link if known else own, *lower], options=options))]
        spec = OverlaySpec(lower, own, os.path.join(layer_id, "work"), options)
        mount = overlay_mount(self._layout.home, spec)
        self._give(layer_id)
        return [mount]

    def _give(self, layer_id: str) -> None:
        """Note that another program may mount a layer, writable. From now on, it is mounted read-only here."""
        merged = self._layout.path(layer_id, "merged")
        if not self._layout.is_given(layer_id):
            if is_mount_point(merged):
                raise OSError(errno.EBUSY, "the layer is mounted there, and only one mount may be writable", merged)
            self._layout.give(layer_id)

    @hookimpl
    def seal(self, layer_id: str) -> bool:
        self._layout.require(layer_id)
        self._layout.commit(layer_id)
        return True

    @hookimpl
    def put(self, layer_id: str) -> None:
        merged = self._layout.path(layer_id, "merged")
        if unmount_all(merged):
            self._log.debug("unmounted {}", merged)
        self._remove_merged(merged)

    def _remove_merged(self, merged: str) -> None:
        try:
            inside.rmdir(merged)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except OSError as error:
            # It has files that were written while nothing was mounted. They are not the driver's to delete.
            self._log.warning("the directory {} is not removed: {}", merged, error.strerror)

    @hookimpl
    def exists(self, layer_id: str) -> bool:
        return self._layout.exists(layer_id)

    @hookimpl
    def layer_ids(self) -> list[str]:
        return self._layout.layer_ids()

    @hookimpl
    def check_layer(self, layer_id: str, parent_id: str) -> list[str]:
        from layerstore_overlay.repair import find_problems

        return [problem.description for problem in find_problems(self._layout, layer_id, parent_id)]

    @hookimpl
    def check_tree(self, layer_id: str, parent_id: str, entries: Iterable[LayerEntry]) -> list[Difference]:
        from layerstore_core.sdk import UnpackRights
        from layerstore_overlay.check_tree import check_upper

        self._layout.require(layer_id)
        return check_upper(
            self._layout.path(layer_id, "diff"),
            self._chains.lowers(layer_id),
            self._xattrs,
            entries,
            rights=UnpackRights(self._layout.home),
            id_mapping=self._id_mapping,
        )

    @hookimpl
    def parent_of(self, layer_id: str, parent_id: str) -> str | None:
        from layerstore_overlay.repair import known_parent

        return known_parent(self._layout, layer_id, parent_id)

    @hookimpl
    def repair_layer(self, layer_id: str, parent_id: str, proved: bool) -> list[str]:
        from layerstore_overlay.repair import repair_layer

        return repair_layer(self._layout, layer_id, parent_id, proved=proved)

    @hookimpl
    def status(self) -> list[tuple[str, str]]:
        features = self._features
        if self._cannot_mount is not None:
            return [
                ("Backing Filesystem", features.backing_file_system),
                ("Mount Method", f"none: {self._cannot_mount}"),
            ]
        fields = [
            ("Backing Filesystem", features.backing_file_system),
            ("Supports d_type", _lower_case(features.d_type)),
            ("Using metacopy", _lower_case(features.behaviour.metacopy)),
            ("Native Overlay Diff", _lower_case(features.native_diff)),
            ("userxattr", _lower_case(features.userxattr)),
            ("Using redirect_dir", _lower_case(features.behaviour.redirect_dir)),
            ("Supports index", _lower_case(features.index)),
            ("Mount Method", "fsopen" if features.takes_single_lowers else "mount"),
            ("Supports size", _lower_case(not self._quota_missing)),
        ]
        if self._size is not None:
            fields.append(("Default size", f"{self._size} bytes"))
        return fields

    @hookimpl
    def metadata(self, layer_id: str) -> dict[str, str]:
        self._layout.require(layer_id)
        fields = {
            "MergedDir": self._layout.path(layer_id, "merged"),
            "UpperDir": self._layout.path(layer_id, "diff"),
            "WorkDir": self._layout.path(layer_id, "work"),
        }
        lower = self._layout.resolve_all(self._layout.lower(layer_id))
        if lower:
            fields["LowerDir"] = ":".join(lower)
        return fields

    @hookimpl
    def cleanup(self) -> None:
        for link in self._layout.stale_links():
            self._log.info("removing {}, a link to a layer that does not exist", link)
            inside.unlink(link, missing_ok=True)
        remove_stale_trial_directories(self._layout.home)

    @hookimpl
    def capabilities(self) -> Capabilities:
        single = self._cannot_mount is not None or self._features.takes_single_lowers
        return Capabilities(
            max_depth=_MAX_DEPTH if single else _MAX_DEPTH_CLASSIC,
            parallel_apply=True,
            quota=not self._quota_missing,
        )

    @hookimpl
    def apply_diff(self, layer_id: str, parent_id: str, diff: LayerStream) -> int | None:
        self._layout.require(layer_id)
        upper = self._layout.path(layer_id, "diff")
        fresh = not inside.has_entries(upper)
        # The directories of a mounted overlay must not be changed directly. And overlayfs may have moved files of the
        # layer to other paths, if it can.
        if is_mount_point(self._layout.path(layer_id, "merged")) or not (fresh or self._native_diff):
            return None
        if not self._layout.lower(layer_id):
            return layerstore_core.unpack_layer(diff, upper, id_mapping=self._id_mapping)
        from layerstore_overlay.unpack import OverlayWhiteouts

        whiteouts = OverlayWhiteouts(self._chains.lowers(layer_id), self._xattrs, diff.await_parents)
        size = layerstore_core.unpack_layer(diff, upper, id_mapping=self._id_mapping, whiteouts=whiteouts)
        self._chains.note(layer_id, whiteouts.notes)
        return size

    @hookimpl
    def diff(self, layer_id: str, parent_id: str) -> BinaryIO | None:
        if self._layout.foreign_owner is not None:
            self._require_mounts()  # the owners on disk are not those of the tar
        native = self._native(layer_id, parent_id)
        if native is None:
            return None
        chunks = layerstore_core.pack_changes(
            self._layout.path(layer_id, "diff"),
            native.diff_changes(),
            id_mapping=self._id_mapping,
            opaque=native.opaque,
        )
        return cast("BinaryIO", io.BufferedReader(layerstore_core.IterStream(chunks)))

    @hookimpl
    def changes(self, layer_id: str, parent_id: str) -> list[Change] | None:
        native = self._native(layer_id, parent_id)
        return None if native is None else native.changes()

    @hookimpl
    def diff_size(self, layer_id: str, parent_id: str) -> int | None:
        usage = self.usage(layer_id, parent_id)
        return None if usage is None else usage[0]

    @hookimpl
    def usage(self, layer_id: str, parent_id: str) -> tuple[int, int] | None:
        from layerstore_core.sdk import changed_usage

        changes = self.changes(layer_id, parent_id)
        return None if changes is None else changed_usage(self._layout.path(layer_id, "diff"), changes)

    @hookimpl
    def diff_getter(self, layer_id: str) -> TreeFiles:
        self._layout.require(layer_id)
        return layerstore_core.TreeFiles(self._layout.path(layer_id, "diff"))

    def _native(self, layer_id: str, parent_id: str) -> NativeChanges | None:
        """Return the layer's changes from its own directory; `None` if the merged trees must be compared."""
        self._layout.require(layer_id)
        lower = self._layout.lower(layer_id)
        direct = lower[:1] == [self._layout.link(parent_id)] if parent_id else not lower
        if not direct or not self._native_diff:
            return None
        from layerstore_overlay.native import NativeChanges, NotNativeError

        try:
            return NativeChanges(
                self._layout.path(layer_id, "diff"),
                self._chains.complete_lowers(layer_id),
                self._xattrs,
                self._id_mapping.root_pair(),
            )
        except NotNativeError as reason:
            self._log.debug("the changes of {} are found by comparing trees: {}", layer_id, reason)
            return None

    @property
    def _native_diff(self) -> bool:
        # If nothing can be mounted, the kernel's behaviour is unknown. But files that a kernel has moved are marked.
        return self._cannot_mount is not None or self._features.native_diff

    @cached_property
    def _quota_missing(self) -> str | None:
        """Why layers cannot be limited in size; `None` if they can."""
        return self._quota.unavailable()


def _require_quota(size: int | None, quota: ProjectQuota) -> None:
    if size is not None and (missing := quota.unavailable()):
        raise DriverNotSupported(f"driver option size: {missing}")


def _lower_case(fact: bool) -> str:
    return "true" if fact else "false"
