"""The site: lines of code that fit, the links to edit a page and to other versions."""

import ast
import doctest
import importlib.util
import inspect
import re
from pathlib import Path

import nbformat
import pytest

import sk_ulmfit

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BUILT = {"_build", "auto_examples", "generated"}
WIDEST = 88  # characters of code that fit into a window of 1280 pixels


@pytest.fixture(scope="module")
def addresses():
    spec = importlib.util.spec_from_file_location("addresses", DOCS / "_ext" / "addresses.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- Widths ---


def code_of_pages():
    """Yield file and line of each line of Python that is shown on a page."""
    pages = [ROOT / "README.md", *(page for page in DOCS.rglob("*.md") if not BUILT & set(page.parts))]
    for page in pages:
        for block in re.findall(r"^```python\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE):
            yield from ((page.name, line) for line in block.splitlines())
    for script in (DOCS / "examples").glob("*.py"):
        _, _title, code = script.read_text().split('"""', 2)
        yield from ((script.name, line) for line in code.splitlines() if not line.startswith("#"))
    for path in DOCS.glob("*.ipynb"):
        for cell in nbformat.read(path, as_version=4).cells:
            if cell.cell_type == "code":
                yield from ((path.name, line) for line in cell.source.splitlines())


def code_of_docstrings():
    """Yield file and line of each example in a docstring of the public parts."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    private = {"training", "nn"}
    for path in (path for path in (ROOT / "sk_ulmfit").rglob("*.py") if not private & set(path.parts)):
        for node in ast.walk(ast.parse(path.read_text())):
            text = ast.get_docstring(node) if isinstance(node, documented) else None
            for example in doctest.DocTestParser().get_examples(text or ""):
                for line in example.source.splitlines():
                    yield path.name, ">>> " + line.partition("  # doctest:")[0]


def test_code_fits_into_the_window_of_a_laptop():
    lines = [*code_of_pages(), *code_of_docstrings()]
    assert len(lines) > 1000
    assert [(file, line) for file, line in lines if len(line) > WIDEST] == []


# --- Addresses ---


@pytest.mark.parametrize(
    ("page", "suffix", "source"),
    [
        ("guide/thresholds", ".md", "docs/guide/thresholds.md"),
        ("tutorial", ".ipynb", "docs/tutorial.ipynb"),
        ("changelog", ".rst", "CHANGELOG.md"),
        ("api/generated/sk_ulmfit.ULMFiTRegressor", ".rst", "sk_ulmfit/regressor.py"),
        ("api/generated/sk_ulmfit.datasets.load_table", ".rst", "sk_ulmfit/datasets/loaders.py"),
        ("auto_examples/plot_training", ".rst", "docs/examples/plot_training.py"),
        ("auto_examples/index", ".rst", "docs/examples/README.rst"),
    ],
)
def test_edit_this_page_leads_to_the_file_behind_a_page(addresses, page, suffix, source):
    assert addresses.source_of(page, suffix) == source
    assert (ROOT / source).exists()


def test_every_page_of_the_api_has_a_source(addresses):
    module, pages = "", []
    for line in (DOCS / "api" / "index.rst").read_text().splitlines():
        if line.startswith(".. currentmodule:: "):
            module = line.split()[-1]
        elif re.fullmatch(r"   \w+", line):
            pages.append(f"api/generated/{module}.{line.strip()}")
    assert len(pages) > 50
    sources = [addresses.source_of(page, ".rst") for page in pages]
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_pages_without_a_source_cannot_be_edited(addresses):
    assert addresses.source_of("search", "") is None
    assert addresses.source_of("auto_examples/sg_execution_times", ".rst") is None


def test_versions_are_those_of_the_changelog_and_the_newest_release_is_preferred(addresses):
    changelog = "## Unreleased\n\n## 1.10.0 (2027-02-01)\n\n## 1.2.0 (2027-01-01)\n"
    listed = addresses.versions(changelog, "https://docs.example.org", "1.11.0")
    assert [entry["version"] for entry in listed] == ["1.11.0", "1.10.0", "1.2.0"]
    assert [entry["version"] for entry in listed if entry.get("preferred")] == ["1.10.0"]
    assert listed[2]["url"] == "https://docs.example.org/1.2.0/"
    first = addresses.versions("## Unreleased\n", "https://docs.example.org", "0.1.0")
    assert first == [
        {"version": "0.1.0", "name": "0.1.0 (stable)", "url": "https://docs.example.org/0.1.0/", "preferred": True}
    ]


def test_the_api_page_lists_every_public_name():
    listed = (DOCS / "api" / "index.rst").read_text()
    missing = [
        name for name in sk_ulmfit.__all__ if not name.startswith("_") and not re.search(rf"^   {name}$", listed, re.M)
    ]
    assert [name for name in missing if not inspect.ismodule(getattr(sk_ulmfit, name))] == []
