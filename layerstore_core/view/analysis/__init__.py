"""Numbers about the layers of a view: what each changes, what is wasted, and where the bytes are.

- `layers` merges one layer after the other, and says what each has changed and which of its bytes are wasted.
- `duplicates` finds files of the same content in one tree.
- `sizes` sums the bytes of directories.

Nothing is mounted. Only `duplicates` reads contents.
"""
