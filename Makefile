# Every target makes its own virtual environment first: nothing but Python is needed,
# and Node.js 20 or later with npm for the browser demo.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.l2rkd_tf_installed
PYTEST_ARGS ?= -q -n 2
WEB = examples/web
PACKAGES = $(WEB)/node_modules/.package-lock.json
PORT ?= 8000

TARGETS = study-fewshot study-patience study-ablation study-capacity
.PHONY: help demo web $(TARGETS) study-methods study-shape bench test stress test-oldest lint format docs dist \
	dist-check clean

help:
	@echo "make demo   distil a digit classifier: table, picture and a .tflite, in minutes"
	@echo "make web    draw digits in a browser and see teacher and students answer; needs Node.js"
	@echo "make study-fewshot  the few-shot studies of the README, hours; go on where they stopped"
	@echo "make study-patience, study-ablation, study-capacity: longer training, what matters in a"
	@echo "            region, students and teachers of several sizes; likewise, about an hour"
	@echo "make study-methods  existing methods with and without L2RKD, likewise"
	@echo "make study-shape    local shape of students by region, likewise"
	@echo "make bench  what a step costs, and time to accuracy: an hour, nothing else on the cores"
	@echo "make test   run the tests"
	@echo "make stress all tests, those of killed, long and random runs at full length"
	@echo "make test-oldest  the tests with the oldest supported versions, on Python 3.10"
	@echo "make lint   check style and types"
	@echo "make format apply the style"
	@echo "make docs   the documentation as a site in build/docs; open index.html there"
	@echo "make dist   wheel and source distribution, in dist/"
	@echo "make dist-check  install them where nothing else is, and run the quickstart"
	@echo "make clean  remove virtual environments, Node's packages, dist and the built demo"

$(INSTALLED): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

$(PACKAGES): $(WEB)/package-lock.json
	cd $(WEB) && npm ci

runs/web/models.json: | $(INSTALLED)
	$(BIN)/python $(WEB)/train_models.py --output=runs/web

web: $(PACKAGES) runs/web/models.json
	node $(WEB)/build.mjs --models=runs/web --output=$(WEB)/dist
	@echo "Open http://127.0.0.1:$(PORT)/ in a browser; Ctrl-C ends the server"
	@$(BIN)/python -m http.server --bind 127.0.0.1 --directory $(WEB)/dist $(PORT)

# Studies of examples/studies.py: each goes on where it stopped.
STUDY = $(BIN)/python examples/compare.py --study

study-fewshot: $(INSTALLED)
	$(STUDY)=fewshot_digits
	$(STUDY)=fewshot_glyphs

study-patience: $(INSTALLED)
	$(STUDY)=patience
	$(STUDY)=equal_steps

study-ablation: $(INSTALLED)
	$(STUDY)=ablation
	$(STUDY)=ablation_glyphs
	$(STUDY)=ablation_again
	$(STUDY)=ablation_again_glyphs

study-capacity: $(INSTALLED)
	$(STUDY)=capacity

study-methods: $(INSTALLED)
	$(BIN)/python examples/compare_methods.py --output=runs/methods_digits

study-shape: $(INSTALLED)
	$(BIN)/python examples/local_shape.py --output=runs/shape_digits

bench: $(INSTALLED)
	$(BIN)/python benchmarks/speed.py --output=runs/speed
	$(BIN)/python benchmarks/profile_step.py --output=runs/profile
	$(BIN)/python benchmarks/time_to_accuracy.py --output=runs/time_to_accuracy

test: $(INSTALLED)
	$(BIN)/python -m pytest $(PYTEST_ARGS)

stress: $(INSTALLED)
	L2RKD_STRESS=1 $(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

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
dist: $(INSTALLED)
	rm -rf dist build/lib
	$(BIN)/python -m build --outdir dist
	$(BIN)/twine check --strict dist/*

dist-check: dist
	$(BIN)/python -m tests.programs.check_dist dist

clean:
	rm -rf $(VENV) $(OLDEST) dist $(WEB)/node_modules $(WEB)/dist
