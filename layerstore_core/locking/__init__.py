"""Kernel locks between processes.

- `root_locks` are the locks of a store's root: exclusive locks, and references, which are shared locks.
- `file_locks` are the locks of one file, of which the former consist; images use them for files of their own.
- `docker_lock` is a lock against Docker daemons on the same root.
"""
