"""Build the kernels. Without a compiler the package is installed all the same, and has none."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

from setuptools import Extension, setup

HERE = Path(__file__).parent
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion"]

# It is true of every editable installation, and would be the first that `make demo` shows.
warnings.filterwarnings("ignore", "Editable installation")

setup(
    ext_modules=[
        Extension(
            "layerstore_native._kernels",
            sources=sorted(str(path.relative_to(HERE)) for path in HERE.glob("src/*.c")),
            depends=sorted(str(path.relative_to(HERE)) for path in HERE.glob("src/*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000"), ("_GNU_SOURCE", None), ("_FILE_OFFSET_BITS", "64")],
            extra_compile_args=["-std=c11", "-O3", "-fvisibility=hidden", *WARNINGS],
            py_limited_api=True,
            # Without a compiler or Python's headers the installation succeeds. `layerstore info` says what is missing.
            optional=True,
        )
    ],
    options={"bdist_wheel": {"py_limited_api": f"cp{sys.version_info.major}11"}},
)
