# The commands of this repository, the same for people and for CI. Everything happens in .venv, which is made once.
#
#   make demo        train beta-TCVAE and beta-VAE at once, print their MIG scores and the pictures: a minute on two cores
#   make model-table the unsupervised models on three seeds or ten, into CSVs and docs/models.md: half an hour of one core
#   make docs        the pages of docs, into docs/_build/html
#   make test        the tests, on every core; make test PYTEST="-k mig -x" for some of them
#   make browser     Debian's Chromium with its driver, for the tests of pages, which are left out without: needs root
#   make parity      every metric against public codes: the largest difference; PARITY_SLOW=1 for the slow cases too
#   make lint        ruff, its formatter, mypy, and clang-format
#   make bench       the ops against other ways to compute the same, on the CPU, within a quarter of an hour
#   make cuda        build with CUDA kernels in .venv-cuda and say what came out: needs nvcc, no GPU
#   make resources   registers, shared memory and spills of the CUDA kernels: needs nvcc, neither a GPU nor torch
#   make device      build, test, sanitize and measure on the GPU of this machine, with PYTHON, whose torch has CUDA
#   make clean       remove the environments and everything that was built
#
# PYTHON  the interpreter that .venv is made with
# TORCH   what pip installs as torch. PyPI's Linux wheels carry CUDA; for the smaller CPU build give the index that
#         pytorch.org names: make demo TORCH="torch==2.13.0 --index-url URL". Another value installs anew.
# TORCH_CUDA  the same for make cuda

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_CUDA ?= torch==2.14.1
PYTEST ?=
VENV := .venv
VENV_CUDA := .venv-cuda
RUN := $(VENV)/bin/python
PIP := $(RUN) -m pip --disable-pip-version-check --quiet
PIP_CUDA := $(VENV_CUDA)/bin/python -m pip --disable-pip-version-check
SOURCES := $(shell find csrc build_support -type f -not -name '*.pyc') pyproject.toml setup.py
FORMATTED := $(shell find csrc bench -name '*.h' -o -name '*.cpp' -o -name '*.cuh' -o -name '*.cu')

# Each step of the installation is a file in .venv that holds the seconds it took; bench/demo.py prints those of the
# steps that this call has done.
BEGUN := $(shell date +%s)
timed = start=$$(date +%s) && $(1) && echo $$(( $$(date +%s) - start )) > $@

.PHONY: demo model-table docs test browser parity lint bench cuda resources device clean
.DELETE_ON_ERROR:
.NOTPARALLEL:

demo: $(VENV)/step-demo
	$(RUN) bench/demo.py $(BEGUN)

model-table: $(VENV)/step-extras
	$(RUN) -m studies.model_table
	$(RUN) -m studies.rotated_axes

docs: $(VENV)/step-docs
	$(RUN) -m sphinx --fail-on-warning --keep-going --quiet --builder html docs docs/_build/html

# One thread for each process: threads that wait for one another on busy cores cost more than they bring.
test: $(VENV)/step-dev
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(RUN) -m pytest -n logical --maxprocesses 8 --dist worksteal $(PYTEST)

browser:
	@command -v chromedriver > /dev/null || { apt-get -qq update && \
		apt-get -qq install --no-install-recommends chromium chromium-driver > /dev/null; }

parity: $(VENV)/step-dev
	$(RUN) tests/metrics/parity.py

lint: $(VENV)/step-dev
	$(RUN) -m ruff format --check --quiet .
	$(RUN) -m ruff check .
	$(RUN) -m mypy
	@$(VENV)/bin/clang-format --dry-run -Werror $(FORMATTED)

bench: $(VENV)/step-bench
	$(RUN) -m bench

# Not editable: that would put its compiled module in the place of that of .venv.
cuda: $(VENV_CUDA)/step-torch
	DISENTANGLE_EXT_CUDA=1 $(PIP_CUDA) install --verbose --no-deps --force-reinstall --no-build-isolation . \
		> $(VENV_CUDA)/build.log 2>&1 || { tail -n 40 $(VENV_CUDA)/build.log; exit 1; }
	@grep 'disentangle_ext: compiling' $(VENV_CUDA)/build.log
	cd $(VENV_CUDA) && bin/python -c 'import disentangle_ext; print(disentangle_ext.build_info())'
	cd $(VENV_CUDA) && bin/python -m disentangle_ext.doctor

resources:
	$(PYTHON) build_support/resources.py

device:
	PYTHON=$(PYTHON) bench/device.sh

clean:
	rm -rf $(VENV) $(VENV_CUDA) build dist docs/_build disentangle_ext.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	rm -f disentangle_ext/_C*.so disentangle_ext/_build_config.json
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/pyvenv.cfg:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

# Rewritten only where TORCH or the build mode has changed, so that everything after it follows.
$(VENV)/settings: $(VENV)/pyvenv.cfg FORCE
	@echo '$(TORCH) $(DISENTANGLE_EXT_BUILD)' | cmp -s - $@ || echo '$(TORCH) $(DISENTANGLE_EXT_BUILD)' > $@

$(VENV)/step-torch: $(VENV)/settings
	$(call timed,$(PIP) install numpy $(TORCH))

# Editable, so that Python files need no new installation; a changed kernel compiles again, alone.
$(VENV)/step-build: $(VENV)/step-torch $(SOURCES)
	$(call timed,$(PIP) install --editable .)

$(VENV_CUDA)/settings: FORCE
	@test -x $(VENV_CUDA)/bin/python || $(PYTHON) -m venv $(VENV_CUDA) || { rm -rf $(VENV_CUDA); exit 1; }
	@echo '$(TORCH_CUDA)' | cmp -s - $@ || echo '$(TORCH_CUDA)' > $@

$(VENV_CUDA)/step-torch: $(VENV_CUDA)/settings
	$(PIP_CUDA) install --quiet numpy 'setuptools>=77' ninja $(TORCH_CUDA)
	@touch $@

# By name: the package itself is installed already, only what the extras add is fetched.
$(VENV)/step-demo: $(VENV)/step-build
	$(call timed,$(PIP) install 'disentangle_ext[demo]')

$(VENV)/step-extras: $(VENV)/step-build
	$(call timed,$(PIP) install 'disentangle_ext[train]')

$(VENV)/step-dev: $(VENV)/step-build
	$(call timed,$(PIP) install 'disentangle_ext[dev]')

$(VENV)/step-docs: $(VENV)/step-build
	$(call timed,$(PIP) install 'disentangle_ext[docs]')

$(VENV)/step-bench: $(VENV)/step-build
	$(call timed,$(PIP) install 'disentangle_ext[bench]')

FORCE:
