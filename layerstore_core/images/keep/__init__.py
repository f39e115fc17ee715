"""Keeping what belongs to images besides their configs and layers, and giving it back.

- `incoming` says what a container has of manifests, indexes and referrers, and writes it down when images are loaded.
- `groups` knows the images of a name that stands for several platforms.
- `recipe` compresses a layer to the same bytes as before; `blobs` keeps layers as they came compressed; `compressed`
  has both.
- `outgoing` chooses what is saved; `layer_blobs` writes layers, and `compression` compresses them.
- `tidy` collects what belonged to images and layers that are gone.

The files are described in `records.kept`.
"""
