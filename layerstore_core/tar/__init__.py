"""The tar format: headers, extended headers, sparse files and whiteouts; scanning and encoding entries."""
