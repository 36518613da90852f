# make test: set up .venv and run the tests.   make reproduce [QUICK=1]: draw the figures, check the claims, write output/index.html.
PYTHON ?= python3
OUT ?= output
BIN := .venv/bin
# numerics on two cores: one BLAS thread beside JAX's own pool
export OMP_NUM_THREADS ?= 1

.PHONY: help test verify reproduce simulate bench lint clean
.DELETE_ON_ERROR:

help:
	@echo "make test              set up .venv, run the tests (under 12 minutes on two cores)"
	@echo "make verify            what takes longer: searches for every false claim, mutants of the formulas (45 minutes)"
	@echo "make reproduce         draw the figures, check the claims, write $(OUT)/index.html (resumes where it stopped)"
	@echo "make reproduce QUICK=1 the same from small inputs, under 90 seconds"
	@echo "make simulate          run the Monte-Carlo studies (resumes where it stopped)"
	@echo "make bench             time this package beside its peers"
	@echo "make lint              ruff and pyright"

$(BIN)/installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=python3.x, for example")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[all]'
	@touch $@

test: $(BIN)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile

verify: $(BIN)/installed
	$(BIN)/python -m pytest -n 2 --dist loadfile -m verify -o session_timeout=3600
	$(BIN)/python -m tests.mutation --most 240

reproduce: $(BIN)/installed
	$(BIN)/python -m paper_figures --out $(OUT) $(if $(QUICK),--quick)

simulate: $(BIN)/installed
	$(BIN)/python -m simulations run mean-score-monotone $(if $(QUICK),--quick)

bench: $(BIN)/installed
	$(BIN)/python -m benchmarks

lint: $(BIN)/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt ruff pyright
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/pyright

clean:
	rm -rf .venv $(OUT) build dist
