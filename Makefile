# `make test` and `make demo` do all their set-up, once, in .venv.
PYTHON ?= python3
# Installed first: a looser requirement could fetch a larger build of PyTorch.
TORCH ?= torch==2.13.0
DEMO_MINUTES ?= 6

BIN := .venv/bin
S2S := $(BIN)/s2s
RUN := demo-run

.PHONY: test lint docs demo install dev clean

test: lint
	$(BIN)/python -m pytest

lint: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict s2scli
	$(BIN)/lint-imports

docs: .venv/.dev
	$(BIN)/python -m s2scli.reference > docs/configuration.md.new
	mv docs/configuration.md.new docs/configuration.md

install: .venv/.run
dev: .venv/.dev

.venv/.torch:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check '$(TORCH)'
	touch $@

# What the installation builds (hatch_build.py).
KERNELS := hatch_build.py $(wildcard s2scli/native/*.[ch])

.venv/.run: .venv/.torch pyproject.toml $(KERNELS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[plot]'
	touch $@

.venv/.dev: .venv/.torch pyproject.toml $(KERNELS)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[plot,dev]'
	touch $@ .venv/.run

# The commands on the bundled corpus, with five test sentences and the picture of their attention.
demo: .venv/.run
	$(S2S) preprocess --run $(RUN) --force \
		--train-src data/train.en --train-tgt data/train.ko \
		--dev-src data/dev.en --dev-tgt data/dev.ko \
		--test-src data/test.en --test-tgt data/test.ko
	$(S2S) train --run $(RUN) --force --max-minutes $(DEMO_MINUTES)
	awk 'NR % 100 == 7' data/test.en > $(RUN)/five.en
	awk 'NR % 100 == 7' data/test.ko > $(RUN)/five.ko
	$(S2S) translate --run $(RUN) --input $(RUN)/five.en --output $(RUN)/five.out --force \
		--attention-plot $(RUN)/attention.png
	@printf '\nFive test lines: source, reference, translation\n\n'
	@paste -d '\n' $(RUN)/five.en $(RUN)/five.ko $(RUN)/five.out /dev/null
	$(S2S) score --run $(RUN)
	$(S2S) report --run $(RUN) --force
	@printf '\nThe attention of the five: %s\nThe report, for a browser: %s\n' $(RUN)/attention.png $(RUN)/report.html

clean:
	rm -rf .venv s2scli/native/*.so $(RUN) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
