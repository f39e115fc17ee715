"""Mixed load on all drivers for as long as one likes, each round with other random choices; ends at the first loss.

`python -m tests.reliability.soak MINUTES`
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.reliability.report import write


def main(minutes: float) -> int:
    """Run rounds of kill storms, power cuts and failing disks; the exit code is that of the round that failed."""
    end = time.monotonic() + minutes * 60
    with tempfile.TemporaryDirectory() as directory:
        figures = Path(directory, "figures")
        seed = 1000
        while time.monotonic() < end:
            seed += 1
            environment = {
                **os.environ,
                "LAYERSTORE_RELIABILITY_SEED": str(seed),
                "LAYERSTORE_FIGURES": str(figures),
            }
            modules = [f"tests/reliability/test_{name}.py" for name in ("kills", "power_cuts", "disk_errors")]
            done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", *modules], env=environment, check=False)
            if done.returncode:
                return done.returncode
        write(figures, f", {minutes:g} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
