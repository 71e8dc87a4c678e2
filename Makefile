# Two commands do all their own set-up: `make study` and `make test`.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

STUDY ?= studies/quickstart.yaml

.PHONY: study test docs chaos lint benchmarks screenshots setup clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "hssl_ray needs Python 3.11 or newer: make PYTHON=/path/to/python3.11")'
	@echo "Setting up .venv (a minute or two) ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

study: setup
	@$(BIN)/hssl-ray run studies/quickstart.yaml

test: setup
	@$(BIN)/python -m pytest --numprocesses 2 --dist loadgroup

# Every command of the documents, also the slow ones, as a reader would type it.
docs: setup
	@HSSL_SLOW_DOCS=1 $(BIN)/python -m pytest tests/test_docs.py tests/test_added.py

# Every fault under five seeds, and the table of what each did. Random faults have ten minutes a seed and study, and go
# two at a time; all others have the machine to themselves, for their times.
FIGURES := build/chaos.jsonl
CHAOS = HSSL_CHAOS_SEEDS=5 HSSL_CHAOS_FIGURES=$(FIGURES) $(BIN)/python -m pytest --timeout 1800

chaos: setup
	@mkdir -p build && rm -f $(FIGURES)
	@$(CHAOS) tests/faults --ignore tests/faults/test_nemesis.py; alone=$$?; \
	$(CHAOS) tests/faults/test_nemesis.py --numprocesses 2 && exit $$alone

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

benchmarks: setup
	@$(BIN)/python benchmarks/all.py

# docs/images from a study that is trained first where it has not been; needs Chromium, chromedriver, PostgreSQL and
# Prometheus.
screenshots: setup
	@$(BIN)/hssl-ray run $(STUDY)
	@$(BIN)/python docs/screenshots/make.py $(STUDY)
	@$(BIN)/python docs/screenshots/make.py $(STUDY) --postgresql mlflow-experiment mlflow-compare
	@$(BIN)/python docs/screenshots/panels.py

clean:
	rm -rf .venv
