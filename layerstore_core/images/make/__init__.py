"""Making images: new configs and new layers, recorded under new names.

- `config_options` changes a config by options; `instructions` parses their values; `created` reads the time.
- `record` records an image whose layers are in the store.
- `layer_builder` builds a layer's tar, which is read as a `layer_tar`. `places` knows its names, `tree_source` and
  `tar_source` read what it is built from, and `content` the contents of files.
- `append` makes an image of one more layer, or of a root file system; `sources` says what goes where.
- `squash` makes one layer of several; `difference` is the layer that makes one tree of another.
"""
