"""The tar format: headers, extended headers, sparse files and whiteouts; scanning and encoding entries.

- `scanner` reads a tar from start to end. `header`, `pax` and `sparse` parse its parts. `run` has plain entries that
  the kernels have read, many at once.
- `encode` writes the headers of entries.
- `entry` has the metadata of an entry, and `whiteouts` the meaning of its name.
- `layer_stream` is a tar as a driver reads it.

Terms: the *payload* of an entry is its content, as it is stored in the tar. A *segment* is all bytes between two
payloads: padding and headers. The *trailer* is all bytes after the end of the archive.
"""
