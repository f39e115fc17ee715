"""Kernel locks between processes: on a store's root, and against Docker daemons."""
