# Every target sets up what it needs; a second call is quick when nothing changed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= $(shell nproc 2>/dev/null || echo 2)
# One thread per process: the work is spread over processes, and sums do not depend on the number of threads.
SINGLE := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

.PHONY: install reproduce report records test hunt lint docs studies bench clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing the pinned packages into $(VENV); torch takes a minute."
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

reproduce: install            ## train, measure, draw: tables and figures under results/
	$(SINGLE) $(BIN)/python -m experiments.reproduce --jobs $(JOBS)
	@$(BIN)/python -m reporting.build

report: install               ## figures and one page from the records: report/index.html
	@$(BIN)/python -m reporting.build

records: reproduce            ## replace the committed records, figures and tables by those of results/
	$(BIN)/python -m experiments.publish

test: install                 ## prove that it is right
	$(SINGLE) $(BIN)/python -m pytest -n $(JOBS) --dist worksteal

hunt: install                 ## 20 times as many examples of the property tests, drawn anew in every run
	PROPERTY_TIMES=20 $(SINGLE) $(BIN)/python -m pytest tests/properties -n $(JOBS) --dist worksteal

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: install                 ## the documentation site, under site/: open site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

studies: install              ## longer experiments, of which the records are committed; the last needs MSDA_DATA and hours
	$(SINGLE) $(BIN)/python -m experiments.first_layer --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.task_winners --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.robust_accuracy --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.robust_ensemble --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.generalization --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.reliability --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.order_ladder --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.gradient_products --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.designed_law --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.theory_training --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.dropmix --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.numerical_errors
	$(SINGLE) $(BIN)/python -m experiments.fuzz_readers --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.reruns --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.branch_coverage --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.mutants --jobs $(JOBS)
	$(SINGLE) $(BIN)/python -m experiments.accuracy --jobs $(JOBS)

bench: install                ## time and memory, as ratios within one run
	$(BIN)/python -m experiments.bench
	$(BIN)/python -m experiments.bench_taylor
	$(BIN)/python -m experiments.bench_laws
	$(BIN)/python -m experiments.bench_mix
	$(BIN)/python -m experiments.bench_train
	$(BIN)/python -m experiments.bench_attacks
	$(BIN)/python -m experiments.bench_graph

clean:
	rm -rf $(VENV) results report site build *.egg-info .mypy_cache .ruff_cache
