"""Byte streams: the source of a layer, decompression, hashing, and reading ahead.

- `source` reads the uncompressed bytes of one layer from a path or a file object, within limits.
- `compression` detects and decompresses gzip, zstd, xz and bzip2.
- `prefetch` reads and decompresses, and `hasher` hashes, in threads, while the code that needs the bytes goes on. They
  are of use because the libraries release the GIL.
- `iterstream` makes a readable stream of an iterator of chunks; `positioned` is the base of files that can seek.
"""
