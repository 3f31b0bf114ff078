# make demo | test | lint | fuzz MINUTES=5 MODELS=5000 | fuzz-files FILES=10000 | schedules CASES=10000 | certificates |
# mutants | clean: each installs what it needs into .venv, once.
#
# The installation is editable: what runs is this checkout, and nothing is installed again when a source file changes,
# only when the metadata do. .ci/run also tries an installation that is a copy.

PYTHON ?= python3
MINUTES ?= 5
MODELS ?= 5000
SEED ?= 0
FILES ?= 10000
TEXTS ?= 2000
CASES ?= 10000
WORKERS ?= auto

VENV := .venv
BIN := $(VENV)/bin
PACKAGE := setup.cfg pyproject.toml
MODEL = $$($(BIN)/python -c "import pathlib, onnx; print(pathlib.Path(onnx.__file__).parent / 'backend/test/data/light/light_vgg19.onnx')")

.PHONY: demo test lint fuzz fuzz-files schedules certificates mutants clean
.DELETE_ON_ERROR:

demo: $(VENV)/.installed
	@mkdir -p demo
	$(BIN)/polyfuse compare kernels/mobilenet_v2.py --set size=640 --from b3_expand --to b3_add \
	  --tile 2 --tile 8x80 --repeats 3 --json demo/mobilenet_v2.json --plot demo/mobilenet_v2.svg
	@echo
	$(BIN)/polyfuse compare "$(MODEL)" --from n0 --to n4 --random-weights 0 \
	  --tile 8 --tile 16x56 --repeats 3 --json demo/vgg19.json --plot demo/vgg19.svg
	@echo; echo "written: demo/mobilenet_v2.json demo/mobilenet_v2.svg demo/vgg19.json demo/vgg19.svg"

test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -n $(WORKERS)

lint: $(VENV)/.installed-lint
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

fuzz: $(VENV)/.installed-test
	$(BIN)/python -m tests.fuzz --minutes $(MINUTES) --seed $(SEED)
	$(BIN)/python -m tests.fuzz.models --models $(MODELS) --seed $(SEED)

fuzz-files: $(VENV)/.installed-test
	$(BIN)/python -m tests.fuzz.files --models $(FILES) --texts $(TEXTS) --seed $(SEED)

schedules: $(VENV)/.installed-test
	$(BIN)/python -m tests.schedule.drawn_schedules $(CASES) --seed $(SEED)
	$(BIN)/python -m tests.schedule.drawn_storage $(CASES) --seed $(SEED)

certificates: $(VENV)/.installed-test
	$(BIN)/python -m tests.plan.search.test_certificates 200 100
	$(BIN)/python -m tests.codegen.scratchpad.test_drawn_tiles 1000

mutants: $(VENV)/.installed-test
	$(BIN)/python -m tests.mutants

clean:
	rm -rf $(VENV) build dist demo polyfuse.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find polyfuse tests kernels -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "polyfuse needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	  echo "no venv: install Python's venv module (Debian: apt install python3-venv)" >&2; exit 1; }

$(VENV)/.installed: $(PACKAGE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-%: $(PACKAGE) | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[$*]'
	@touch $@ $(VENV)/.installed
