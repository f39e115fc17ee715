"""The command `layerstore`.

`app` holds the command tree and turns errors into exit codes, `session` opens the store, `parameters`
checks what was typed, `output` and `progress` write, `commands` has a module for each command or family.
Nothing heavy is imported here or when those modules load: `layerstore --version` has to be quick.
"""

from __future__ import annotations

import gc
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line in `sys.argv`, and exit with its code (the console script's entry point)."""
    # A run is short, and what it makes in numbers (layers, names) it keeps: looking through all that for cycles as
    # often as a server should would cost a tenth of the time of a listing.
    gc.set_threshold(20_000, 20, 100)
    from layerstore_core.cli import signals

    try:
        signals.install()
        from layerstore_core.cli.app import cli

        code = cli.run(sys.argv[1:])
        signals.uninstall()
    except KeyboardInterrupt:
        # Pressed before the application could take over, or while it was leaving.
        code = 130
    except signals.Terminated as stopped:
        code = stopped.exit_code
    # And once more at the end, before all of it goes: 0.04 s of a run that takes 0.3.
    gc.freeze()
    sys.exit(code)
