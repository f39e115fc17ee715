"""Whether a tree of files is what the tars of its layers make."""
