"""Registration of layers before their commit: read one layer, or a chain of layers at the same time."""
