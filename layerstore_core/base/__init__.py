"""Tools that know nothing of layers: digests, descriptors, guarded files, durability, units."""
