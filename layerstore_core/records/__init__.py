"""Records on disk: Docker's layerdb and image records, and our own state next to them."""
