"""The vfs driver: every layer is a whole tree of its own, in plain files. It needs no privileges, and works anywhere."""

from layerstore_vfs.driver import VfsDriver

__all__ = ["VfsDriver"]
