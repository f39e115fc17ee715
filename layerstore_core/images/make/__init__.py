"""Images made from other images, writable layers, files and tars: one module an operation."""
