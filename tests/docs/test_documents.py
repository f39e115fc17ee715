"""The shell and Python code in README and the other documents runs as it is written there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from layerstore_core import load_config
from tests.docs.surroundings import TOP, Surroundings, blocks, make_surroundings, registry, remove

DOCUMENTS = [TOP / "README.md", *sorted(TOP.glob("docs/**/*.md")), *sorted(TOP.glob("*/*/README.md"))]
SHELL = [
    pytest.param(text, id=f"{path.relative_to(TOP)}-{number}")
    for path in DOCUMENTS
    for number, text in enumerate(blocks(path, "console", "sh"))
    if "make " not in text  # the targets of the Makefile are run by continuous integration, or by hand
]
#: The code of the tutorials is that of example packages, which have their own tests.
PYTHON = [
    pytest.param(text, id=f"{path.relative_to(TOP)}-{number}")
    for path in DOCUMENTS
    if path.name not in ("tutorial.md", "tutorial-pool.md")
    for number, text in enumerate(blocks(path, "python"))
]


def test_documents_have_examples() -> None:
    assert len(SHELL) >= 7
    assert len(PYTHON) >= 3


def why_no_overlay() -> str:
    """Return why a shell example of the overlay driver cannot run here; an empty text if it can."""
    from tests.driver_roots import why_not

    return why_not("overlay2")


@pytest.mark.parametrize("script", SHELL)
def test_shell_example_runs(made_surroundings: Surroundings, quick_program: Path, tmp_path: Path, script: str) -> None:
    driver = "overlay2" if "overlay2" in script and "dockerd" not in script else "vfs"
    if driver == "overlay2" and why_no_overlay():
        pytest.skip(why_no_overlay())
    if "jq" in script and shutil.which("jq") is None:
        pytest.skip("jq is not installed")
    here = tmp_path / "here"
    surroundings = (
        make_surroundings(here, quick_program, driver=driver) if driver != "vfs" else made_surroundings.copied(here)
    )
    try:
        done = surroundings.run(script, driver=driver)
        assert (done.returncode, "Traceback" in done.stderr) == (0, False), done.stdout + done.stderr
    finally:
        remove(here)


def test_python_examples_are_typed(tmp_path: Path) -> None:
    """One run of the type checker has all examples, each in its own file. A message names the file of its example."""
    paths = []
    for number, example in enumerate(PYTHON):
        paths.append(tmp_path / f"example_{number}.py")
        paths[-1].write_text(str(example.values[0]))
    check = [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, "--cache-dir", os.devnull, *paths]
    typed = subprocess.run(check, cwd=TOP, capture_output=True, text=True, check=False)
    names = "\n".join(f"{path.name}: {example.id}" for path, example in zip(paths, PYTHON, strict=True))
    assert typed.returncode == 0, f"{typed.stdout}\n{names}"


@pytest.mark.parametrize("program", PYTHON)
def test_python_example_runs(surroundings: Surroundings, program: str) -> None:
    path = surroundings.here / "example.py"
    program = program.replace("/srv/layers", str(surroundings.here / "store"))
    with registry() as fake:
        path.write_text(program.replace("registry.example.com", fake.host))
        done = surroundings.run(f"{sys.executable} example.py")
    assert done.returncode == 0, done.stderr


def test_configuration_example_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text, registries = blocks(TOP / "docs" / "configuration.md", "toml")
    file = tmp_path / "config.toml"
    file.write_text(text)
    config = load_config(file)
    document = tomllib.loads(text)
    assert config.driver == document["driver"]
    assert config.drivers["overlay2"] == document["drivers"]["overlay2"]
    for table in (registries, *blocks(TOP / "docs" / "how-to" / "use-registries.md", "toml")):
        file.write_text(table)
        assert load_config(file).document()["registries"].keys() == tomllib.loads(table)["registries"].keys()
    (rules,) = blocks(TOP / "docs" / "reference" / "analysis.md", "toml")
    file.write_text(rules)
    assert load_config(file).report == tomllib.loads(rules)["report"]


def test_wrapper_of_the_how_to_page_is_called(surroundings: Surroundings, tmp_path: Path) -> None:
    """The example is installed, without pip, as the page says: a module and an entry point."""
    page = TOP / "docs" / "how-to" / "write-a-wrapper.md"
    (program,), (table,) = blocks(page, "python"), blocks(page, "toml")
    (tmp_path / "my_package.py").write_text(program)
    ((group, points),) = tomllib.loads(table)["project"]["entry-points"].items()
    metadata = tmp_path / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    done = surroundings.run(
        f"PYTHONPATH={tmp_path} LAYERSTORE_LOG_LEVEL=1 layerstore register app.tar --parent 3f1c9a2b"
    )
    assert done.returncode == 0, done.stderr
    assert "created" in done.stderr
    assert "applied" in done.stderr
