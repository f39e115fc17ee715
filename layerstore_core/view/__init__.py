"""Views: layers and images read without a mount and without root's rights.

- `tree` is the merged tree of a chain of layers, made by `merge` from the entries of their tars, as `nodes`.
- `layers` is what a view knows of a layer: its entries, without their contents, and the content of one file.
- `path` has paths in a view, which are used like those of pathlib.
- `compare` compares two trees.
- `content` is the content of a file as a binary file object.
- `history` says what each layer has done to a path; `copy_out` copies files to the host.
- `entries` yields the entries of any tar.
"""
