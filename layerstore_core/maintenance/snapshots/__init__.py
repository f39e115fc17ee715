"""Check and repair the snapshots of an engine."""
