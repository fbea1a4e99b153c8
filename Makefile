# Every target makes its own virtual environment first: nothing but Python is needed.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/.l2rkd_tf_installed
PYTEST_ARGS ?= -q -n 2

.PHONY: help demo study study-methods study-shape bench test stress lint format clean

help:
	@echo "make demo   distil a digit classifier: table, picture and a .tflite, in minutes"
	@echo "make study  the few-shot study of the README, about an hour; goes on where it stopped"
	@echo "make study-methods  existing methods with and without L2RKD, likewise"
	@echo "make study-shape    local shape of students by region, likewise"
	@echo "make bench  what a step costs, and time to accuracy: an hour, nothing else on the cores"
	@echo "make test   run the tests"
	@echo "make stress all tests, those of killed, long and random runs at full length"
	@echo "make lint   check the style"
	@echo "make format apply the style"
	@echo "make clean  remove the virtual environment"

$(INSTALLED): setup.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $(INSTALLED)

demo: $(INSTALLED)
	$(BIN)/python examples/demo.py

study: $(INSTALLED)
	$(BIN)/python examples/fewshot.py --output=runs/fewshot_digits

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

format: $(INSTALLED)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV)
