"""A snapshotter for containerd: its snapshot service, by gRPC, over a store of layers.

- `messages` has the messages of the protocol.
- `filters` has the language in which lists of snapshots are asked for.
"""
