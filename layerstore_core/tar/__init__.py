"""The tar format: headers, extended headers, sparse files, whiteouts; reading and writing entries."""
