# Each target makes its own virtual environment on a machine that has Python 3.11 and nothing else.
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
# PyPI's torch for Linux on x86_64 brings CUDA libraries, several gigabytes. Without an Nvidia GPU they are of no use:
#     make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
# The index is asked beside the usual ones. Once torch is in $(VENV) it stays: `make clean` first, to have another.
TORCH_INDEX ?=

.PHONY: demo test check clean

demo: $(VENV)/run
	$(BIN)/finesmith demo

test: $(VENV)/dev
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

check: $(VENV)/dev
	$(BIN)/ruff format --check src tests bench examples
	$(BIN)/ruff check src tests bench examples
	$(BIN)/mypy
	$(BIN)/lint-imports

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and alone, so that nothing but TORCH_INDEX and constraints.txt chooses its build
$(VENV)/run: $(VENV)/bin/python pyproject.toml constraints.txt
	@$(if $(TORCH_INDEX),:,echo "torch comes from pip's usual index: on Linux x86_64 PyPI's brings CUDA libraries (gigabytes). Without a GPU: TORCH_INDEX=https://download.pytorch.org/whl/cpu")
	$(BIN)/python -m pip install --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX) )torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist src/*.egg-info
