# Everything a user runs. CORPUS: auto text8 fil9 wikipedia sample planted, or a text file.
# PROFILE: auto smoke laptop paper.
CORPUS ?= auto
PROFILE ?= auto
ARGS ?=
PYTHON ?= python3
VENV := .venv
# Up to four tests run at once: each worker compiles, and holds up to 1.5 GB.
PYTEST := $(VENV)/bin/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=worksteal
BIN := $(VENV)/bin
export MPLBACKEND := Agg

# A file name is taken as it was typed: quoted for the shell, and not read by make.
TYPED := $(value CORPUS)
NAMED := $(if $(word 2,$(TYPED)),,$(filter auto text8 fil9 wikipedia sample planted,$(TYPED)))
CORPUS_OPTIONS := $(if $(NAMED),$(patsubst %,corpus=%,$(filter-out auto,$(NAMED))),\
  corpus=file 'corpus.path=$(subst ','\'',$(TYPED))')

.DEFAULT_GOAL := help
.PHONY: help setup reproduce figures sweep theory maml test check bench

help:  ## list the targets
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(VENV)/.done  ## make .venv with pinned dependencies

$(VENV)/.done: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "Python 3.11 or newer is needed, $(PYTHON) is $$($(PYTHON) --version):" \
	    "make PYTHON=python3.12 ..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

reproduce: setup  ## the main job: corpus, every model, figures, report
	$(BIN)/python scripts/reproduce.py $(CORPUS_OPTIONS) reproduce.profile=$(PROFILE) $(ARGS)

figures: setup  ## draw all figures again from the finished runs
	$(BIN)/python scripts/plot.py 'plot.runs=[runs]' $(ARGS)

sweep: setup  ## a small width sweep through Hydra's multirun
	$(BIN)/python scripts/train.py -m model.width=16,64,256 corpus.max_vocab=2000 train.epochs=1 $(ARGS)

theory: setup  ## measure what the theory predicts: runs/theory/theory.html
	$(BIN)/python scripts/theory.py $(ARGS)

maml: setup  ## first-order MAML at infinite width: runs/maml/maml.png
	$(BIN)/python scripts/maml.py $(ARGS)

test: setup  ## all tests that need no network and no GPU
	$(PYTEST) $(ARGS)

check: setup  ## lint, types and the fast tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(PYTEST) -m 'not slow' $(ARGS)

bench: setup  ## every benchmark; tables on stdout
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done
