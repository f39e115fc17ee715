"""`python -m layerstore_core` is the command `layerstore`."""

from __future__ import annotations

from layerstore_core.cli import main

if __name__ == "__main__":
    main()
