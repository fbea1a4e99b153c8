# Every target makes its own virtual environment first: nothing but Python is needed,
# and Node.js 20 or later with npm for the browser demo.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEV = $(VENV)/.dev
DEMO = $(VENV)/.demo
# By files, so that what the tests of a file share is made once.
PYTEST_ARGS ?= -q -n 2 --dist loadfile --no-loadscope-reorder
WEB = examples/web
PACKAGES = $(WEB)/node_modules/.package-lock.json
PORT ?= 8000

.PHONY: help demo web study bench test stress test-oldest lint format docs dist dist-check clean

help:
	@echo "make demo   distil a digit classifier: table, picture and a .tflite, in minutes"
	@echo "make web    draw digits in a browser and see teacher and students answer; needs Node.js"
	@echo "make study NAME=fewshot_digits  run a study, or resume it; without NAME, list them"
	@echo "make bench  what a step costs, and time to accuracy: an hour, nothing else on the cores"
	@echo "make test   run the tests"
	@echo "make stress run all tests, those of killed, long and random runs at full length"
	@echo "make test-oldest  run the tests with the oldest supported versions, on Python 3.10"
	@echo "make lint   check style, types and the direction of imports"
	@echo "make format apply the style"
	@echo "make docs   build the documentation as a site in build/docs; open index.html there"
	@echo "make dist   build wheel and source distribution, in dist/"
	@echo "make dist-check  install them in an empty environment, and run quickstart and programs"
	@echo "make clean  remove virtual environments, Node's packages, dist and the built demo"

# What users need to run the demo; developers have it all.
$(DEMO): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	test -e $(DEV) || $(BIN)/python -m pip install --quiet --editable ".[data,plots,litert]"
	touch $(DEMO)

$(DEV): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(DEV)

demo: $(DEMO)
	$(BIN)/l2rkd demo --overwrite

$(PACKAGES): $(WEB)/package-lock.json
	cd $(WEB) && npm ci

runs/web/models.json: | $(DEMO)
	$(BIN)/python $(WEB)/train_models.py --output=runs/web

web: $(PACKAGES) runs/web/models.json
	node $(WEB)/build.mjs --models=runs/web --output=$(WEB)/dist
	@echo "Open http://127.0.0.1:$(PORT)/ in a browser; Ctrl-C ends the server"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(WEB)/dist $(PORT)

# Each study resumes where it stopped.
study: $(DEV)
	$(BIN)/python -m studies $(NAME)

bench: $(DEV)
	$(BIN)/python -m benchmarks.speed --output=runs/speed
	$(BIN)/python -m benchmarks.profile_step --output=runs/profile
	$(BIN)/python -m benchmarks.time_to_accuracy --output=runs/time_to_accuracy

test: $(DEV)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

stress: $(DEV)
	L2RKD_STRESS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache --no-logo
	$(BIN)/mypy

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(DEV)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# The versions of tests/oldest.txt in a virtual environment of their own.
OLDEST_PYTHON ?= python3.10
OLDEST = $(VENV)-oldest

$(OLDEST)/.installed: setup.py tests/oldest.txt
	$(OLDEST_PYTHON) -m venv $(OLDEST)
	$(OLDEST)/bin/python -m pip install --quiet --upgrade pip
	$(OLDEST)/bin/python -m pip install --quiet --constraint tests/oldest.txt --editable ".[test]"
	touch $(OLDEST)/.installed

test-oldest: $(OLDEST)/.installed
	$(OLDEST)/bin/python -m pytest $(PYTEST_ARGS)

# The wheel is built from the source distribution.
dist: $(DEV)
	rm -rf dist build/lib
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

dist-check: dist
	$(BIN)/python -m tests.programs.check_dist dist

clean:
	rm -rf $(VENV) $(OLDEST) dist $(WEB)/node_modules $(WEB)/dist
