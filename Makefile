# SPDX-License-Identifier: LGPL-2.1-or-later

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin

.PHONY: demo test vmtest lint bundle clean

# The main job on a recorded vmcore.
demo: drgn_vmemmap.pyz
	$(BIN)/drgn -q -c vmcores/head-reuse-6.12.vmcore ./drgn_vmemmap.pyz

# All tests that need neither root nor a network beyond Python's packages.
test: $(VENV)/installed
	$(BIN)/python -m pytest -n auto --ignore tests/vm tests

# The same on real kernels, booted under QEMU.
vmtest: $(VENV)/installed
	$(BIN)/python -m pytest -n auto tests/vm

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[test,lint]'
	touch $@

clean:
	rm -rf $(VENV) drgn_vmemmap.pyz
