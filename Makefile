# make demo   sets up everything and runs the main job on real drawings
# make test   sets up everything and passes lint, types and tests
# make setup  prepares .venv; quick when nothing changed

PYTHON ?= python3
VENV := .venv
STAMP := $(VENV)/.installed
DEMO := demo

.PHONY: setup test demo clean

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[train,dev]'
	touch $(STAMP)

test: setup
	scripts/check

demo: setup
	$(VENV)/bin/python -m examples.emoji --variant small --out $(DEMO)/emoji
	$(VENV)/bin/python -m examples.emoji.job $(DEMO)/emoji $(DEMO)/run

clean:
	rm -rf $(VENV) $(DEMO) .mypy_cache .pytest_cache .ruff_cache
