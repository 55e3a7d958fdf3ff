# make setup | demo | studio | bench | test | lint. Needs Python 3.10 to 3.13 with venv, nothing else.
PYTHON ?= python3
BIN := .venv/bin
DONE := .venv/.setup-done

.PHONY: setup demo studio bench bench-gpu browser test lint

setup: $(DONE)

# Runs again only when what is to be installed has changed.
$(DONE): requirements.txt requirements-dev.txt constraints.txt scripts/setup.sh
	PYTHON=$(PYTHON) bash scripts/setup.sh
	@touch $@

demo: setup
	@mkdir -p output
	$(BIN)/python -m llia_core animate --portrait llia_core/assets/demo_portrait.png \
		--audio llia_core/assets/demo_speech.wav -o output/demo.mp4

# The canvas in a browser, without ComfyUI: prints the address.
studio: setup
	$(BIN)/python -m host serve

# Speed, latency, memory of the bundled model here; under 5 minutes on two cores.
bench: setup
	@mkdir -p output
	$(BIN)/python -m llia_core bench --start-up --json output/bench.json

# All of docs/performance.md that wants a GPU, in under 10 minutes; llia-sd15 has random weights.
bench-gpu: setup
	bash scripts/bench_gpu.sh

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

browser: setup
	@bash scripts/browser.sh

test: lint browser
	$(BIN)/python -m pytest
