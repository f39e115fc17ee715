"""A snapshotter for containerd: its snapshot service, by gRPC, over a store of layers.

- `messages` has the messages of the protocol, and `filters` the language in which lists of snapshots are asked for.
- `service` answers the calls; `refusals` has the status codes of errors.
- `server` runs it, with a socket (`sockets`, `forward`), a health service and metrics.
- `command` is the program `layerstore-snapshotter`.
"""
