"""Layers in a registry, of which no more is read than needed.

- `layer` is such a layer, as views read it. It is one of two kinds.
- `toc_layer` reads by ranges what its table of contents names: `place` says where that is, `source` gets it, `document`
  and `entries` read it, and `chunks` remembers where contents are.
- `streamed` reads a layer from its beginning, as far as needed.
- `ranges` is how blobs are read.
"""
