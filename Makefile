# The few commands a person types. Each makes .venv on first use; settings.ini says what goes into it.
PYTHON ?= python3
# where pip finds torch, if not where it finds everything else; a small CPU-only torch on Linux:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
ARGS ?=

BIN := .venv/bin
READY := .venv/.ready
TORCH = $(filter torch>% torchvision%,$(shell sed -n 's/^requirements *= *//p' settings.ini))
quoted = $(foreach word,$(1),'$(word)')

.DEFAULT_GOAL := help
.PHONY: help demo test lab explore readme notebooks screenshots clean-notebooks clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' Makefile

$(READY): settings.ini setup.py pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Python 3.10 or newer is needed; name one with: make PYTHON=python3.11 ...")'
	@echo "Installing into .venv; the first time this takes a few minutes."
	$(PYTHON) -m venv .venv
	$(BIN)/pip install $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) $(call quoted,$(TORCH))
	$(BIN)/pip install -e '.[dev]'
	@touch $@

demo: $(READY) ## train on the embedded faces, translate new ones: runs/demo/sheet.png
	$(BIN)/pmsgan demo --out runs/demo $(ARGS)

test: export OMP_NUM_THREADS = 1
test: $(READY) ## the tests inside the notebooks, then the notebooks themselves and the commands
	$(BIN)/nbdev_test --n_workers 2 --timing
	$(BIN)/pytest $(ARGS)

lab: $(READY) ## JupyterLab with the course
	$(BIN)/jupyter lab --notebook-dir nbs $(ARGS)

explore: $(READY) ## the explorer on a local page, with the generator in the box
	$(BIN)/pmsgan explore $(ARGS)

readme: $(READY) ## README.md from nbs/index.ipynb
	$(BIN)/python tools/make_readme.py

notebooks: $(READY) ## run every chapter and keep its outputs (after changes; then look at them)
	for nb in nbs/[0-9]*.ipynb nbs/workshop/*.ipynb; do $(BIN)/papermill --no-progress-bar --cwd $$(dirname $$nb) $$nb $$nb || exit 1; done
	$(MAKE) clean-notebooks

screenshots: $(READY) ## of the explorers, into nbs/images (needs Chromium; after changes of how they look)
	$(BIN)/python tools/screenshots.py

clean-notebooks: $(READY) ## the package from the notebooks, and the notebooks without metadata and live widgets
	$(BIN)/nbdev_export
	$(BIN)/python tools/tidy_outputs.py
	$(BIN)/nbdev_clean

clean: ## remove what these commands made, except runs/
	rm -rf .venv build dist *.egg-info .pytest_cache
