# `make` lists what there is. Everything is installed into .venv here and nowhere else.
# Variables: PYTHON=python3.12 (for a new .venv), ADDRESS=127.0.0.1:8080 (run), ARGS="-k http1" (test…, bench…).

PYTHON ?= python3
ADDRESS ?= 127.0.0.1:8080
ARGS ?=
PIP = .venv/bin/python -m pip --quiet --disable-pip-version-check
SOURCES = pyproject.toml setup.py $(wildcard bridge/core/*.[ch] bridge/core/*.cdef bridge/core/build_core.py)

.PHONY: help run test check test-all test-lowest test-docker dist figures bench bench-compare bench-readme clean

help:  ## this list
	@sed -n 's/^\([a-z-]*\):.*## /make \1\t/p' Makefile | expand -t 24

run: .venv/installed  ## serve apps/hello.py on http://127.0.0.1:8080
	@printf 'Bridge serves apps/hello.py. Try, in another terminal:\n'
	@printf '  curl -i "http://$(ADDRESS)%s\n' '/"' '/hello"' '/headers"' '/slow?seconds=2"' '/echo" -d text'
	@printf '  curl -N "http://$(ADDRESS)/events"\nCtrl-C ends it.\n'
	@exec .venv/bin/bridged run --app-dir apps hello:app --bind $(ADDRESS)

test: .venv/installed-test  ## the whole suite
	@.ci/machine test
	@.venv/bin/python -m pytest $(ARGS)

check: .venv/installed-lint  ## ruff, mypy --strict, the architecture
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/python -m pytest -q tests/test_architecture.py

test-all:  ## the suite on every CPython from 3.11 on that is found
	@.ci/machine test
	@$(PYTHON) tests/every_python.py $(ARGS)

test-lowest:  ## the suite on the oldest dependencies that are allowed
	@.ci/machine test
	@$(PYTHON) -m tests.lowest $(ARGS)

test-docker: .venv/installed-test  ## docker/ for real: needs a running Docker engine, gets or makes base images
	@.venv/bin/python -m tests.docker.stand_ins
	@BRIDGE_DOCKER=required .venv/bin/python -m pytest tests/docker $(ARGS)

dist: .venv/installed-dist  ## the source distribution and a manylinux wheel, into dist/
	@.venv/bin/python -m tests.package.build dist

figures: .venv/installed-bench .venv/installed-test  ## cancelling, overload, kill -9, broken workers, little memory: measured (ARGS=--help)
	@.venv/bin/python -m tests.figures $(ARGS)

bench: .venv/installed-bench  ## Bridge beside uvicorn, granian and gunicorn (needs wrk; ARGS=--help)
	@.venv/bin/python -m tests.bench $(ARGS)

bench-compare: .venv/installed  ## what has changed between two runs: ARGS="OLD.json NEW.json"
	@.venv/bin/python -m tests.bench.compare $(ARGS)

bench-readme: .venv/installed  ## show a run in the README: ARGS=FILE.json
	@.venv/bin/python -m tests.bench.readme $(ARGS)

clean:  ## remove whatever the other targets made, results of benchmarks excepted
	rm -rf .venv .venvs build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache tests/core/build bridge/core/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@PYTHON='$(PYTHON)' .ci/machine python
	@echo 'Creating .venv with $(PYTHON)'
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/installed: .venv/bin/python $(SOURCES)
	@PYTHON=.venv/bin/python .ci/machine compiler
	@echo 'Installing Bridge and compiling its C core'
	@$(PIP) install --editable .
	@touch $@

.venv/installed-%: .venv/installed
	@echo 'Installing what `make $*` needs'
	@$(PIP) install --editable '.[$*]'
	@touch $@
