"""Settings: what there is, where each comes from, how it is validated."""
