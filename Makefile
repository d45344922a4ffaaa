# One word for each thing to do here; continuous integration (.ci/run) and pre-commit use the same words.
bin := .venv/bin

.PHONY: setup test style lint types imports docstrings spelling docs

setup:
	python3 -m venv .venv
	$(bin)/pip install -q -c constraints.txt -e ".[test,docs]"

test:
	$(bin)/python -m pytest

style: lint types imports docstrings spelling

lint:
	$(bin)/ruff check .
	$(bin)/ruff format --check .

types:
	$(bin)/mypy

imports:
	$(bin)/lint-imports

docstrings:
	$(bin)/python -m numpydoc lint $$(find sk_ulmfit -name '*.py')

spelling:
	$(bin)/codespell --check-hidden sk_ulmfit tests docs benchmarks .github *.md

docs:
	$(bin)/sphinx-build -q -W --keep-going -b html docs docs/_build/html
