# make demo   sets up everything and runs the main job on real drawings
# make test   sets up everything and passes lint, types and tests
# make docs   sets up everything and builds the documentation as a site: build/docs/index.html
# make setup  prepares .venv; quick when nothing changed
# make browser  installs Debian's chromium, which the tests of the review page drive, where it is missing
# make store  installs moto's S3 server into build/moto, which the tests of object stores talk to
# make web    fetches onnxruntime-web with npm, which the test of the model in a browser runs, where it is missing

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check
# uv, where it is there, is faster; not for torch, of which only pip takes the build for processors that is at hand.
INSTALL := $(if $(shell command -v uv),uv pip install --quiet --python $(VENV)/bin/python,$(PIP))
STAMP := $(VENV)/.installed
DEMO := demo
SITE := build/docs
# What the test of an exported model in a browser runs: one package of npm, known by its digest.
WEB := build/onnxruntime-web
WEB_PACKAGE := onnxruntime-web-1.30.0
WEB_DIGEST := ab4cbe26baedba45d2cec05610c71c55fa97db92d19a8b171c5f8269126683ca$\
590a5cdc57bb2f35ce2b298de32f4d956fb42644c0ecd528a0a91e025c07ca61

.PHONY: setup test docs demo browser store web clean

setup: $(STAMP)

# Every file that is installed has one of the digests that are kept here, but torch: its build depends on the index.
$(STAMP): pyproject.toml constraints.txt requirements-dev.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --no-deps --only-binary :all: --require-hashes -r requirements-dev.txt
	$(PIP) -c constraints.txt torch
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $(STAMP)

test: setup browser store web
	scripts/check

# Anew each time, as pages are made of the code too; a warning is an error.
docs: setup
	$(VENV)/bin/python -m sphinx -q -E -W --keep-going -b html docs $(SITE)

# Installs a program of the distribution, unless it is there.
install = command -v $(1) >/dev/null || { command -v apt-get >/dev/null && \
	{ test "$$(id -u)" = 0 || command -v sudo >/dev/null; }; } || \
	{ echo "expected $(1) on the PATH, found none, and it cannot be installed here: install it with your system's" \
	"packages" >&2; exit 1; }; command -v $(1) >/dev/null || { sudo=; test "$$(id -u)" = 0 || sudo=sudo; \
	$$sudo apt-get update -qq && $$sudo apt-get install -y -qq --no-install-recommends $(1); }

# The tests drive the distribution's browser, so that none is downloaded.
browser:
	@$(call install,chromium)

# In an environment of its own: what it needs (botocore) takes no python-dateutil of today.
store: build/moto/.installed

build/moto/.installed: requirements-store.txt
	test -x build/moto/bin/python || $(PYTHON) -m venv build/moto
	build/moto/bin/python -m pip install --quiet --disable-pip-version-check --only-binary :all: \
	--require-hashes -r requirements-store.txt
	touch $@

web: $(WEB)/$(WEB_PACKAGE)

# All that is used of it lies in one folder; what names the version comes last, and says that the rest is there.
$(WEB)/$(WEB_PACKAGE):
	@$(call install,npm)
	mkdir -p $(WEB)
	cd $(WEB) && npm pack --silent $(subst -web-,-web@,$(WEB_PACKAGE)) >/dev/null
	cd $(WEB) && echo "$(WEB_DIGEST)  $(WEB_PACKAGE).tgz" | sha512sum --check --quiet
	cd $(WEB) && tar xzf $(WEB_PACKAGE).tgz --strip-components 2 package/dist/ort.wasm.min.mjs \
	package/dist/ort-wasm-simd-threaded.mjs package/dist/ort-wasm-simd-threaded.wasm && rm $(WEB_PACKAGE).tgz
	touch $@

demo: setup
	$(VENV)/bin/python -m examples.emoji --variant small --no-embeddings --out $(DEMO)/emoji
	$(VENV)/bin/python -m examples.emoji.story $(DEMO)/emoji $(DEMO)

clean:
	rm -rf $(VENV) $(DEMO) build .mypy_cache .pytest_cache .ruff_cache
