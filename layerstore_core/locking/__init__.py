"""Kernel locks between processes.

- `root_locks` are the locks of a store's root: exclusive locks, and references, which are shared locks.
- `docker_lock` is a lock against Docker daemons on the same root.
"""
