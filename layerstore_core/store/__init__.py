"""The layer store: layers and writable layers, references to them, and the operations on them."""
