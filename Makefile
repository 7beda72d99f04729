# Each target does one thing, in an environment of its own (.venv).
PYTHON ?= $(shell command -v python3.11 || command -v python3.12 || echo python3)
VENV ?= .venv
TORCH ?= torch
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help demo test slow fuzz golden lint type bench gpu docs results site archive package clean

help:
	@echo "make demo     gradient matching on starpilot beside its reference rows"
	@echo "make test     the tests, on real Procgen and real Minari files"
	@echo "make slow     the tests that take more than a few seconds each"
	@echo "make fuzz     mutated files of strangers to every command that reads them: ten minutes"
	@echo "make golden   records, tables and site of two small suites against their kept hashes"
	@echo "make lint     ruff"
	@echo "make type     mypy --strict"
	@echo "make bench    benchmarks that compare within one run, into docs/results/speed.md"
	@echo "make gpu      nine minutes on a GPU, into docs/results/speed.md"
	@echo "make docs     the tables of docs/reference and the findings of README, from catalogue and records"
	@echo "make results  the suites by worth, in the background, into the leaderboard"
	@echo "make site     the leaderboard's tables and its site, in build/site; then verifies its records"
	@echo "make archive  the leaderboard as build/board.zip with checksums, and verifies it"
	@echo "make package  sdist, wheel built from it, and the wheel tried outside the checkout"

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt $(TORCH)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	# Its games, which ours are compared with, need none of what it draws with.
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt --no-deps minatar
	touch $@

demo: $(READY)
	$(BIN)/rlcondense run --method gradmatch --task starpilot

test: $(READY)
	$(BIN)/pytest -q -n auto --dist worksteal -m "not slow and not gpu and not fuzz"

slow: $(READY)
	$(BIN)/pytest -q -n auto --dist worksteal -m "slow"

# SECONDS in all, side by side; SEED=N tries what was tried before.
fuzz: SECONDS ?= 600
fuzz: $(READY)
	FUZZ_SECONDS=$(SECONDS) FUZZ_SEED=$(SEED) $(BIN)/pytest -q -n auto -m fuzz tests/fuzz

golden: $(READY)
	$(BIN)/python tests/golden/golden.py check

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(READY)
	$(BIN)/mypy

bench: $(READY)
	BENCH=1 $(BIN)/pytest -q -s tests/benchmarks

# Nothing is installed for it: a GPU machine brings a torch of its own.
gpu:
	$(PYTHON) -m tests.benchmarks.gpu

docs: $(READY)
	$(BIN)/python docs/generate.py

# In the background of other work; RESULTS=FOLDER keeps what is computed, and all in it is added.
results: RESULTS ?= results/suites
results: $(READY)
	$(BIN)/python baselines/results.py --results $(RESULTS)

site: $(READY)
	$(BIN)/rlcondense leaderboard build leaderboard --into docs/results/light2024.md --site build/site --data
	$(BIN)/rlcondense leaderboard verify leaderboard

archive: $(READY)
	mkdir -p build
	$(BIN)/rlcondense leaderboard pack leaderboard --out build/board.zip
	$(BIN)/rlcondense leaderboard verify build/board.zip

package: $(READY)
	rm -rf dist
	$(BIN)/python -m build --quiet --outdir dist
	sh tests/try_wheel.sh $(BIN)/python dist

clean:
	rm -rf $(VENV) dist build
