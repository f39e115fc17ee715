"""tar-split: what is kept of a tar beside its files, so that the same bytes can be put together again."""
