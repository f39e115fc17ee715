"""Trees of files, accessed through descriptors: walk, read, compare, copy and remove them."""
