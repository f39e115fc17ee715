"""Tools that are independent of layers: digests, descriptors, guarded files, durability, units."""
