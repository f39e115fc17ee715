"""The vfs driver: every layer is a whole tree of its own, in plain files. It works anywhere, without privileges."""

from layerstore_vfs.driver import VfsDriver

__all__ = ["VfsDriver"]
