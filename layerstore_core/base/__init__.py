"""Tools that are independent of layers: digests, descriptors, guarded files, durability, units.

- `inside` is the only access to files below a store's root: it follows no links. `atomic` writes small files there.
- `descriptors` owns open descriptors, so that none is leaked or closed twice.
- `durability` flushes file systems, and `replace_file` writes output files as a whole.
- `threads` is the only module that starts threads: a pool for the program, and lanes of calls in order.
- `digests` has the IDs of layers and images, `reference` the names of images, `paths` the names in layers, and
  `nameset` a compact set of names.
- `limits`, `units` and `arguments` check input; `times` reads and writes times, and `jsontext` says
  what is wrong with JSON; `plugins` finds the entry points of
  installed packages.
"""
