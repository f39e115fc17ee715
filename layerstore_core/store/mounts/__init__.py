"""Read-only mounts of layers.

- `records` notes them, and `attach` makes them; `read_only` does both, in a safe order, and ends them.
- `mounting` has the methods of `Layer`.
"""
