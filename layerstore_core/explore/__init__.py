"""Looking into images and the store in a terminal, with the extra `layerstore-core[explore]`.

- What is shown, without Textual: `image` and `comparison` open what is explored, `marks` says what a layer has changed,
  `file_tree` and `rows` are the tree and its visible rows, `filters` chooses files, `details` has totals and waste,
  `contents` a file as text and as hex digits, `origins` where a path comes from,
  `store_tree` the whole store.
- `plain` writes the same facts as lines of text, for screen readers and pipes.
- `widgets`, `screens` and `app` are the program in a terminal, and load Textual.
"""
