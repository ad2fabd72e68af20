# On a fresh clone `make demo` and `make test` are all the set-up there is.
# Windows, or without make: README.md has the same as pip commands.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SECONDS ?=
PYTEST ?=

# Tests start programs by the hundred, and each would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test clean

demo: $(VENV)/.demo
	$(BIN)/cars-rt demo $(if $(SECONDS),--seconds $(SECONDS))

# Most tests wait for processes of their own, so files run beside each other, two to a core.
test: $(VENV)/.test
	$(BIN)/pytest -n $$($(BIN)/python -c 'import os; print(2 * (os.cpu_count() or 1))') --dist loadfile --no-loadscope-reorder --max-worker-restart 2 $(PYTEST)

clean:
	rm -rf $(VENV) build demo-output *.egg-info

# The core and what draws the picture: no torch.
$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "CARS-RT needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo]"
	touch $@

# Everything that is tested, training with torch too.
$(VENV)/.test: $(VENV)/.demo
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,dev,train]"
	touch $@
