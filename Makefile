# make demo   sets up everything and runs the main job on real drawings
# make test   sets up everything and passes lint, types and tests
# make docs   sets up everything and builds the documentation as a site: build/docs/index.html
# make setup  prepares .venv; quick when nothing changed
# make browser  installs Debian's chromium, which the tests of the review page drive, where it is missing

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
# uv, where it is there, is faster; not for torch, of which only pip takes the build for processors that is at hand.
INSTALL := $(if $(shell command -v uv),uv pip install --quiet --python $(VENV)/bin/python,$(PIP))
STAMP := $(VENV)/.installed
DEMO := demo
SITE := build/docs

.PHONY: setup test docs demo browser clean

setup: $(STAMP)

# Every file that is installed has one of the digests that are kept here, but torch: its build depends on the index.
$(STAMP): pyproject.toml constraints.txt requirements-dev.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --no-deps --only-binary :all: --require-hashes -r requirements-dev.txt
	$(PIP) -c constraints.txt torch
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $(STAMP)

test: setup browser
	scripts/check

# Anew each time, as pages are made of the code too; a warning is an error.
docs: setup
	$(VENV)/bin/python -m sphinx -q -E -W --keep-going -b html docs $(SITE)

# The tests drive the distribution's browser, so that none is downloaded.
browser:
	@command -v chromium >/dev/null || { command -v apt-get >/dev/null && \
	{ test "$$(id -u)" = 0 || command -v sudo >/dev/null; }; } || \
	{ echo "expected chromium on the PATH, found none, and it cannot be installed here: install it with your" \
	"system's packages" >&2; exit 1; }
	@command -v chromium >/dev/null || { sudo=; test "$$(id -u)" = 0 || sudo=sudo; \
	$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends chromium; }

demo: setup
	$(VENV)/bin/python -m examples.emoji --variant small --no-embeddings --out $(DEMO)/emoji
	$(VENV)/bin/python -m examples.emoji.story $(DEMO)/emoji $(DEMO)

clean:
	rm -rf $(VENV) $(DEMO) build .mypy_cache .pytest_cache .ruff_cache
