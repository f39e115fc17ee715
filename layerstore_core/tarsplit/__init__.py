"""tar-split: a record of a tar without its files' contents, from which the same bytes can be assembled again."""
