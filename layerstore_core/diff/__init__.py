"""From trees of files to changes, and from changes to a tar."""
