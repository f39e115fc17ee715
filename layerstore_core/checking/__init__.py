"""Looking for damage, a module per concern; `layerstore_core.check` puts them together."""
