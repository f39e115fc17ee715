"""Trees of files, reached through descriptors: walking, reading, comparing, copying, removing."""
