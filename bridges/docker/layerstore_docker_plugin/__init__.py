"""A server that lends any layerstore driver to a Docker daemon, by Docker's protocol for graph driver plugins.

- `command` is the program `layerstore-graphdriver`.
- `sockets` opens the server's Unix socket; `server` reads requests from it, and writes answers.
- `methods` has the methods of the protocol, by name; `messages` checks their arguments.
- `lent` is the driver as the daemon uses it: opened by Init, with mounts that outlive the server.
- `ids` gives layers the IDs that drivers take; `problems` says what has failed, and of which class it is.

What this server adds to Docker's protocol is in `docs/reference/graph-driver-protocol.md`.
"""
