"""Images in registries: pulled into a store, pushed from it, or read where they are."""
