"""Check, repair and garbage collection of a store."""
