# `make demo` and `make test` do everything from a fresh clone: they need Python 3.11 or newer, make, and nothing else.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The drivers of this repository, installed with the core for development.
DRIVERS := $(wildcard drivers/*/pyproject.toml)
EXAMPLES := $(wildcard examples/*/pyproject.toml)
# Servers that give the drivers to other programs.
BRIDGES := $(wildcard bridges/*/pyproject.toml)
PYTEST_ARGS ?=
# Images of Python often set this. Then each of the thousands of processes that the tests start compiles all modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint unit plain real engines storm docs reliability nightly soak fuzz reports wheels wheels-demo constraints growth bench clean browser report-page

demo: $(VENV)/.ready  ## register real layers and export the same bytes, with the vfs driver and without root
	$(BIN)/python examples/demo.py --layerstore $(BIN)/layerstore

test: lint unit  ## everything that is checked

lint: $(VENV)/.ready  ## style, format, types, the direction of imports, and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/codespell

# What the kernels have to agree with. Tests of kernels are skipped. Drivers, locks and records do not know the engine:
# `make nightly` takes all, and the tests of stores and of several parts together.
PLAIN_ARGS ?= -k "not overlay2 and not btrfs"
PLAIN := tests/tar tests/tarsplit tests/unpack tests/diff tests/tree
plain: $(VENV)/.ready  ## the tests of tars and trees, without the kernels
	LAYERSTORE_NATIVE=0 $(BIN)/python -m pytest -n auto --dist loadgroup $(PLAIN) $(PLAIN_ARGS) $(PYTEST_ARGS)

unit: $(VENV)/.ready  ## all tests; those that need root or the kernel's help are skipped where it is missing
	$(BIN)/python -m pytest -n auto --dist loadgroup $(PYTEST_ARGS)

docs: $(VENV)/.ready  ## the documentation's site, in build/site; a link that leads nowhere is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	! grep -rEn '<(script|img|link|iframe|source)[^>]* (src|href)="?(https?:)?//' build/site --include='*.html'
	! grep -rEn '(url\(|@import )[^;]{0,1}(https?:)?//' build/site --include='*.css'

real: $(VENV)/.ready  ## a whole Debian, loaded by us and by Docker: takes minutes, a mirror, root, mmdebstrap and docker.io
	$(BIN)/python -m pytest -s tests/docker/real_root_file_system.py

# They are no part of the gate: Go and the sources of the engines are 150 MB of packages, and building and running take
# minutes. As root, what is missing is installed first.
SUITES := bridges/containerd/tests/suite/containerd_suite.py bridges/docker/tests/suite/graphtest.py
ENGINES := $(SUITES) bridges/containerd/tests/real bridges/docker/tests/real_dockerd.py tests/report/real_images.py
engines: $(VENV)/.ready  ## the engines' own test suites over our servers, and all tests with real engines: takes minutes, root and Debian
	[ "$$(id -u)" != 0 ] || .ci/packages engines
	LAYERSTORE_TEST_STRICT=1 LAYERSTORE_TEST_ENGINES=all $(BIN)/python -m pytest $(ENGINES) $(PYTEST_ARGS)

STORM_MINUTES ?= 10
# In a mount name space of its own: runc reads all mounts that it sees, and fails if other programs have very long ones.
storm: $(VENV)/.ready  ## clients of a real containerd, commands of the store and kills of our server at once, for STORM_MINUTES; root
	unshare --mount --propagation private $(BIN)/python -m bridges.containerd.tests.real.storm $(STORM_MINUTES) $(STORM_ARGS)

# The script of the page of `layerstore report` is built of its sources and checked in, so that only those who change
# it need npm. The versions are pinned, so the bytes are the same everywhere. No scripts of packages are run.
PAGE := layerstore_core/report/page
PAGE_BUILD := build/report-page
report-page:  ## the script of the report's page, of its sources; takes npm
	rm -rf $(PAGE_BUILD) && mkdir -p $(PAGE_BUILD)
	cp $(PAGE)/source/*.js $(PAGE)/source/*.json $(PAGE)/source/.npmrc $(PAGE_BUILD)/
	cd $(PAGE_BUILD) && npm ci --silent --ignore-scripts --no-audit --no-fund
	cd $(PAGE_BUILD) && npm run --silent build >script.txt
	cat $(PAGE)/source/license-of.txt $(PAGE_BUILD)/node_modules/d3-hierarchy/LICENSE >$(PAGE)/LICENSES.txt
	mv $(PAGE_BUILD)/script.txt $(PAGE)/script.js

BROWSER ?= chromium
BROWSER_DIR ?= build/browser
browser: $(VENV)/.ready  ## pages of reports in a real browser: zoom, search, keyboard, axe, times, screenshots; takes npm and chromium
	mkdir -p $(BROWSER_DIR)
	cp tests/report/browser/*.json $(PAGE)/source/.npmrc $(BROWSER_DIR)/
	cd $(BROWSER_DIR) && npm ci --silent --ignore-scripts --no-audit --no-fund
	$(BIN)/python -m tests.report.browser $(BROWSER_DIR) $(BROWSER)

# The tests that LAYERSTORE_RELIABILITY=1 makes thorough.
THOROUGH := tests/reliability tests/fuzz tests/store/test_hostile_root.py tests/store/test_killed.py
reliability: $(VENV)/.ready  ## power cuts, kills and failing disks, all of them: takes an hour and root; writes the figures into docs/reliability.md
	rm -f build/figures && mkdir -p build
	LAYERSTORE_RELIABILITY=1 LAYERSTORE_FIGURES=build/figures $(BIN)/python -m pytest $(THOROUGH) $(PYTEST_ARGS)
	$(BIN)/python -m tests.reliability.report build/figures

# All that the gate (.ci/run) leaves out or cuts short. It takes hours, and root.
nightly: $(VENV)/.ready  ## the whole kit for the example drivers, long property tests, all proofs of reliability, growth
	env -u LAYERSTORE_TEST_EXAMPLE_GROUPS $(BIN)/python -m pytest -n auto --dist loadgroup $(dir $(EXAMPLES)) $(PYTEST_ARGS)
	LAYERSTORE_TEST_PEERS=all LAYERSTORE_TEST_REMOTE=whole LAYERSTORE_TEST_MUTANTS=whole LAYERSTORE_TEST_NEW_DRIVERS=whole LAYERSTORE_TEST_QUICK=0 HYPOTHESIS_PROFILE=thorough $(BIN)/python -m pytest -n auto --dist loadgroup --timeout 3600 tests drivers bridges $(PYTEST_ARGS)
	LAYERSTORE_RELIABILITY=1 $(BIN)/python -m pytest $(THOROUGH) $(PYTEST_ARGS)
	$(MAKE) plain PLAIN="$(PLAIN) tests/store tests/across" PLAIN_ARGS=
	$(MAKE) engines growth

SOAK_MINUTES ?= 60
soak: $(VENV)/.ready  ## mixed load on all drivers for SOAK_MINUTES, each round with other random choices
	$(BIN)/python -m tests.reliability.soak $(SOAK_MINUTES)

FUZZ_MINUTES ?= 60
# Atheris has wheels for some Pythons only; without it Hypothesis' bytes are unguided.
fuzz: $(VENV)/.ready  ## random and damaged input for FUZZ_MINUTES, over all of tests/fuzz; FUZZ_ARGS="tar pax" names targets
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: atheris || echo "no atheris for this Python: going on without it"
	$(BIN)/python -m tests.fuzz $(FUZZ_MINUTES) $(FUZZ_ARGS)

# A report that the repository kept would be of an older commit.
REPORTED := vfs overlay btrfs
reports: $(VENV)/.ready  ## the whole kit for our drivers, and its reports into their packages, for the next wheels: minutes, root
	for name in $(REPORTED); do $(BIN)/python -m pytest -n auto drivers/$$name/tests/test_conformance.py --conformance-report drivers/$$name/layerstore_$$name/conformance.json $(PYTEST_ARGS) || exit 1; done

wheels: $(VENV)/.ready  ## wheels of all distributions, in dist/
	rm -rf dist
	for project in . native $(dir $(DRIVERS) $(BRIDGES)); do $(BIN)/python -m build --wheel --no-isolation --outdir dist $$project || exit 1; done

wheels-demo: wheels  ## the demo from the built wheels of core, kernels and vfs, in an environment that has nothing else
	rm -rf build/wheels-demo
	$(PYTHON) -m venv build/wheels-demo
	build/wheels-demo/bin/python -m pip install --quiet --disable-pip-version-check dist/layerstore_core-*.whl dist/layerstore_native-*.whl dist/layerstore_driver_vfs-*.whl
	build/wheels-demo/bin/python examples/demo.py --layerstore build/wheels-demo/bin/layerstore
	build/wheels-demo/bin/layerstore --root build/wheels-demo/none info | grep "^Engine: *kernels in C"

# The tools are the dependency group `dev` (PEP 735) in the versions of constraints-dev.txt, so that clones of different
# days test the same. It is a constraints file rather than a lock file, since pip alone has to do, and a lock names the
# index that it was made with. The first step brings a pip that knows `--group` (25.1), which Python 3.11's own does not.
# The group has what builds the packages. Without isolation it is not installed once more for each of them.
# The kernels are compiled in place. Where there is no compiler they are left out, and the core does without them.
KERNELS := $(wildcard native/src/*.[ch])
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
PACKAGES := -e . -e native/ $(foreach p,$(DRIVERS) $(EXAMPLES) $(BRIDGES),-e $(dir $(p)))
$(VENV)/.ready: $(VENV)/.installed native/setup.py $(KERNELS)
	cd native && $(abspath $(BIN))/python setup.py --quiet build_ext --inplace
	touch $@

$(VENV)/.installed: pyproject.toml native/pyproject.toml constraints-dev.txt $(DRIVERS) $(EXAMPLES) $(BRIDGES)
	$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed; name it with PYTHON=...") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install -c constraints-dev.txt pip
	$(PIP) install -c constraints-dev.txt --group dev
	$(PIP) install -c constraints-dev.txt --no-build-isolation $(PACKAGES)
	touch $@

constraints:  ## the newest versions of everything that developing needs, into constraints-dev.txt
	rm -rf build/constraints && $(PYTHON) -m venv build/constraints
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	build/constraints/bin/python -m pip install --quiet --disable-pip-version-check --group dev $(PACKAGES)
	(sed -n '/^#/p' constraints-dev.txt; build/constraints/bin/python -m pip freeze --all --exclude-editable) >build/constraints.txt
	mv build/constraints.txt constraints-dev.txt

growth: $(VENV)/.ready  ## whether operations on stores of 40 and of 10,000 layers cost the same for each layer: takes minutes
	LAYERSTORE_GROWTH=10000 $(BIN)/python -m pytest tests/benchmarks/test_growth.py $(PYTEST_ARGS)

bench: $(VENV)/.ready  ## layerstore and the installed peers at the same work; BENCH_ARGS="--entries 10000 --rounds 3" is quicker
	$(BIN)/python -m benchmarks $(BENCH_ARGS)

clean:
	rm -f drivers/*/layerstore_*/conformance.json
	rm -rf $(VENV) dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis
