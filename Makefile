# SPDX-License-Identifier: LGPL-2.1-or-later

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
BUNDLE = build/drgn_vmemmap
VMCORE = vmcores/head-reuse.vmcore
TEST = pytest -n auto --dist worksteal

# The tests start hundreds of processes, which load what the first of them compiled.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test longtest coverage fuzz mutation browsertest vmtest packagetest matrix corners bench lint bundle manual clean

# The main job, on a recorded vmcore.
demo: $(BUNDLE)
	$(BIN)/drgn -q -c $(VMCORE) $(BUNDLE)

# The tests that need neither root nor a network beyond Python's packages.
test: $(VENV)/tests
	$(BIN)/python -m $(TEST) -m "not long"

# Those that take longest: one test in thirteen, and more than half of the time.
longtest: $(VENV)/tests
	$(BIN)/python -m $(TEST) -m long

# How much of the package "make test" runs, in all processes that its tests start.
coverage: $(VENV)/tests
	rm -rf build/coverage
	mkdir -p build/coverage
	$(BIN)/coverage run -m $(TEST) -m "not long"
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

# Single places of the package are changed, at random, and those that no test notices are printed.
mutation: $(VENV)/tests
	$(BIN)/python -m tests.mutation

# Each target of tests/fuzz, or TARGET alone, for so many seconds; see tests/README.md.
SECONDS ?= 60
fuzz: $(VENV)/tests
	$(BIN)/python -m tests.fuzz $(SECONDS) $(TARGET)

# The HTML report in a real browser; it needs Debian's chromium and chromium-driver.
# Screenshots are left in build/screenshots.
browsertest: $(VENV)/tests
	$(BIN)/python -m pytest tests/browser

# The tests on real kernels, booted under QEMU; vmcores/README.md lists what they need.
vmtest: $(VENV)/tests
	$(BIN)/python -m pytest -n auto --dist worksteal --durations 15 tests/vm

# Wheel, source distribution and bundle, built and tried as a user would, in fresh environments.
packagetest: $(VENV)/tests
	$(BIN)/python -m pytest tests/packaging

# Each Python and each drgn that the tool runs with, on all recorded vmcores; corners: the oldest
# and the newest of both.
matrix corners: $(VENV)/tests
	$(BIN)/python -m tests.packaging.matrix $@

# The benchmark; its dumps are built once, in build/bench (7 GB on disk, much more with holes).
bench: $(VENV)/tests
	$(BIN)/python -m tests.bench
	VMEMMAP_EXAMPLES=1000 $(BIN)/python -m pytest -n auto tests/analysis/test_reference.py

lint: $(VENV)/tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The manual page that a build installs.
manual: $(VENV)/package
	$(BIN)/python -m drgn_vmemmap.cli.manual > man/drgn-vmemmap.1.new
	mv man/drgn-vmemmap.1.new man/drgn-vmemmap.1

bundle: $(BUNDLE)

$(BUNDLE): $(VENV)/package $(shell find drgn_vmemmap -name '*.py' -o -path '*/templates/*')
	mkdir -p $(@D)
	$(BIN)/drgn-vmemmap bundle $@

$(VENV)/package: pyproject.toml
	$(PYTHON) -m venv $(VENV) || { echo "Python's venv is missing: install python3-venv" >&2; exit 1; }
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/tests: $(VENV)/package
	$(BIN)/pip install --quiet --editable '.[extract,fuzz,mutation,test,lint]'
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
