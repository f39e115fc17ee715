"""Tar archives and file trees: scanning, unpacking, packing, comparing. Knows nothing of stores or drivers."""
