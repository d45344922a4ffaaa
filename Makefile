# One word for each thing to do here; continuous integration (.ci/run) and pre-commit use the same words.
bin := .venv/bin
lowest := .venv-lowest/bin

.PHONY: setup test style lint types imports docstrings spelling docs site dist demo runtime lowest

setup:
	python3 -m venv .venv
	$(bin)/pip install -q -c constraints.txt -e ".[test,docs,dev]"

test:
	$(bin)/python -m pytest -n 2 --dist worksteal

style: lint types imports docstrings spelling

lint:
	$(bin)/ruff check .
	$(bin)/ruff format --check .

# The package; then two files that use it, without the settings of this project.
types:
	$(bin)/mypy
	$(bin)/mypy --config-file= --strict tests/user_script.py tests/expected_types.py
	$(bin)/pyright --pythonpath $(bin)/python

imports:
	$(bin)/lint-imports

docstrings:
	$(bin)/python -m numpydoc lint $$(find sk_ulmfit -name '*.py')

spelling:
	$(bin)/codespell --check-hidden sk_ulmfit tests docs benchmarks .github *.md

docs:
	$(bin)/sphinx-build -q -W --keep-going -b html docs docs/_build/html

# The built site: the search, and pages at the width of a phone and of a laptop.
site: docs
	$(bin)/python .ci/pages.py docs/_build/html

# What is uploaded to the package index, checked as the index does.
dist:
	rm -rf dist
	$(bin)/python -m build -q
	$(bin)/twine check --strict dist/*

# The wheel alone, in an environment of its own and in an empty folder.
demo: dist
	rm -rf .venv-wheel && python3 -m venv .venv-wheel
	.venv-wheel/bin/pip install -q -c constraints.txt dist/*.whl
	cd "$$(mktemp -d)" && $(CURDIR)/.venv-wheel/bin/sk-ulmfit demo

# A model that was exported, in an environment with nothing but the wheel and what its folder asks for.
runtime: dist
	rm -rf .venv-runtime && python3 -m venv .venv-runtime
	$(bin)/python .ci/exported.py .venv-runtime/model
	.venv-runtime/bin/pip install -q --no-deps dist/*.whl
	.venv-runtime/bin/pip install -q -c constraints.txt -r .venv-runtime/model/requirements.txt
	cd .venv-runtime && bin/python -c "from sk_ulmfit import runtime; print(runtime.load('model').predict(['Where is it?']))"

# Tests of what each dependency does here, with the lowest version of each that pyproject.toml allows. torch alone has the
# version of constraints.txt: older ones are on PyPI only with GPU libraries of several gigabytes.
lowest_tests := tests/test_callbacks.py tests/test_classifier.py tests/test_labels.py tests/test_linear.py \
	tests/test_metrics.py tests/test_models.py tests/test_saved_models.py tests/test_sklearn_contract.py \
	tests/test_splitting.py tests/test_text.py
lowest:
	python3 -m venv .venv-lowest
	$(lowest)/python .ci/lowest.py > .venv-lowest/lowest.txt
	$(lowest)/pip install -q -c constraints.txt torch
	$(lowest)/pip install -q -c .venv-lowest/lowest.txt -e . hypothesis pandas polars pytest pytest-xdist
	$(lowest)/python -m pytest -n 2 --dist worksteal $(lowest_tests)
