# make demo   the program with the sample CT; without a display the same in the folder demo/
# make test   lint and the whole test suite
# Both set up .venv first. PYTHON=... chooses the interpreter, JOBS=... the test processes.

VENV ?= .venv
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
JOBS ?= 2
BIN := $(VENV)/bin
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench
DOCS_READY := $(VENV)/.docs
SCREEN := $(shell command -v xvfb-run >/dev/null 2>&1 && echo 'xvfb-run -a -s "-screen 0 1600x1000x24"')
# Many small computations side by side: one thread each is fastest.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: demo test lint bench bench-all docs screenshots system format clean distclean

demo: system $(READY)
	@if [ -n "$$DISPLAY$$WAYLAND_DISPLAY" ] || [ "$$(uname)" = Darwin ]; then \
		$(BIN)/chexanatomy demo; \
	else \
		$(BIN)/chexanatomy demo --headless demo; \
	fi

test: system lint
	$(MAKE) --no-print-directory pytest

# A make of its own, so that SCREEN is looked up after the system libraries were installed.
pytest: $(READY)
	$(ONE_THREAD) $(SCREEN) $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
.PHONY: pytest

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The projector beside others: bench takes minutes, bench-all an hour or more and writes docs/benchmarks.md. What is not installed is left out.
bench: $(BENCH_READY)
	$(BIN)/python -m benchmarks.drr

bench-all: $(BENCH_READY)
	$(BIN)/python -m benchmarks.drr --all --docs docs
	$(BIN)/python -m benchmarks.convergence --plot docs/images/convergence.png

$(BENCH_READY): $(READY)
	-$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[bench]'
	@touch $(BENCH_READY)

bench-desk: system $(READY)
	$(SCREEN) $(BIN)/python -W ignore benchmarks/bench_desk.py

screenshots: system $(READY)
	$(BIN)/chexanatomy demo --headless demo
	cp demo/window.png docs/images/window.png
	$(SCREEN) $(BIN)/python docs/make_screenshots.py docs/images

# The documentation as a site, in build/site; a broken link is an error.
docs: $(DOCS_READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

$(DOCS_READY): $(READY)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[docs]'
	@touch $(DOCS_READY)

system:
	@tools/system_libraries.sh

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@echo 'Installing into $(VENV): this takes some minutes the first time.'
	$(BIN)/python -m pip install --quiet --upgrade -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[all,dev]'
	@touch $(READY)

clean:
	rm -rf demo build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean
	rm -rf $(VENV)
