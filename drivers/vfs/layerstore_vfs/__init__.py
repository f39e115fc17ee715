"""The vfs driver: every layer is a whole tree of its own, in plain files. It needs no rights, and works anywhere."""

from layerstore_vfs.driver import VfsDriver

__all__ = ["VfsDriver"]
