# make setup       the virtual environment in .venv, reused while up to date
# make quickstart  the whole method on a synthetic corpus; ends with results/quickstart/report.html
# make test        the default test suite (real speech too, where VESPER_TEST_DATA names it)
# make bench       the CPU benchmarks into results/benchmarks/*.json, and the tables made from them (a
#                  quarter of an hour on two quiet cores)
# make lint        ruff and yamllint
# make clean       the quickstart's results; .venv stays
#
# Settings:  PYTHON=python3.12                                    which Python makes .venv (3.10 or newer)
#            TORCH_INDEX=https://download.pytorch.org/whl/cpu     torch and torchaudio from this index (small CPU build)
#            PIP_ARGS="--index-url ..."                           more arguments for pip install
#            QUICKSTART_ARGS="--seed 1"                           arguments for recipes/quickstart/quickstart.py
#            PYTEST_ARGS="-k masker"                              arguments for pytest

VENV ?= .venv
PYTHON ?=
TORCH_INDEX ?=
PIP_ARGS ?=
QUICKSTART_ARGS ?=
PYTEST_ARGS ?=
export PYTHON TORCH_INDEX PIP_ARGS
# Packages are installed without byte code, so let the first import write it: seconds for every later process.
unexport PYTHONDONTWRITEBYTECODE
# Threads that wait sleep instead of spinning: on a busy machine spinning makes a step six times as long.
OMP_WAIT_POLICY ?= PASSIVE
export OMP_WAIT_POLICY

python = $(VENV)/bin/python

benchmarks = complexity headers input encoder_cpu pretrain_step finetune growth

.PHONY: setup quickstart test bench lint clean

setup:
	@.ci/make_venv.sh $(VENV)

quickstart: setup
	@$(python) recipes/quickstart/quickstart.py $(QUICKSTART_ARGS)

test: setup
	@$(python) -m pytest $(PYTEST_ARGS)

bench: setup
	@failed=""; for name in $(benchmarks); do \
		echo "== benchmarks/$$name.py"; \
		$(python) benchmarks/$$name.py --json results/benchmarks/$$name.json || failed="$$failed $$name"; \
	done; \
	$(python) recipes/tables.py; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

lint: setup
	@$(python) -m ruff check .
	@$(python) -m yamllint --strict .

clean:
	rm -rf results/quickstart
