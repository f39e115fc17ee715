"""New layers: built from files, directories and tars, or from the difference of two trees."""
