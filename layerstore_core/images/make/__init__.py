"""Making images: new configs and new layers, recorded under new names.

- `created` reads the time of an image; `record` records an image whose layers are in the store.
"""
