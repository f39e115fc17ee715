"""Files of other programs that say where registries are, and which certificates they have."""
