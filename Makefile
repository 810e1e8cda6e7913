# make demo: set up and run the demonstration; make test: set up and test; make docs: build the site;
# make browser: build the page that detects in the browser.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
METADATA = setup.cfg setup.py pyproject.toml

.PHONY: demo test lint docs browser

demo: $(VENV)/.installed
	$(BIN)/python tools/demo.py

test: lint
	OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m pytest --numprocesses 2 --dist worksteal

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(VENV)/.installed-docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

browser: $(VENV)/.installed-export
	npm --prefix tools/browser ci
	PYTHON=$(abspath $(BIN)/python) npm --prefix tools/browser run build

$(VENV):
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(METADATA) | $(VENV)
	$(PIP) --editable '.[train]'
	touch $@

$(VENV)/.installed-dev: $(METADATA) | $(VENV)
	$(PIP) --editable '.[dev]'
	touch $@ $(VENV)/.installed

$(VENV)/.installed-export: $(METADATA) | $(VENV)
	$(PIP) --editable '.[export]'
	touch $@

$(VENV)/.installed-docs: $(METADATA) | $(VENV)
	$(PIP) --editable '.[docs]'
	touch $@ $(VENV)/.installed
