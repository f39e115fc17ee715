"""Snapshots: writable layers that an engine mounts by itself, and commits as parents of others.

The operations follow containerd's snapshotters (containerd, docs/snapshotters). They work on any driver: what a
driver cannot do is done in another way, at a cost.
"""
