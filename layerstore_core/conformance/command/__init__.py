"""What `layerstore conformance` does: it runs pytest on an installed driver, once or at each change."""
