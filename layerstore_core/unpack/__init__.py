"""From a layer's tar to a tree of files."""
