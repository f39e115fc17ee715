"""Making images from what the store has, with new configs.

- `commit` makes one from a writable layer, whose state `rw_changes` reads.
- `configure` makes one from another image, or from layers that are in the store.
- `rebase` puts the own layers of an image on another base.
"""
