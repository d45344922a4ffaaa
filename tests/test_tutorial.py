"""The tutorial notebook runs from top to bottom. ``python tests/test_tutorial.py`` runs it and saves its outputs."""

import json
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def executed(folder, *more_code):
    """Run the notebook in a folder; a cell that raises ends it."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in more_code]
    options = {"timeout": 600, "record_timing": False, "coalesce_streams": True}
    return NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options).execute()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("tutorial")


@pytest.fixture(scope="module")
def notebook(folder):
    return executed(folder, "import json\nprint(json.dumps(scores))")


def test_it_runs_and_its_scores_are_plausible(notebook, folder):
    scores = json.loads(notebook.cells[-1].outputs[-1].text)
    assert scores["same after loading"]
    assert 0.65 < scores["micro F1"] < 0.95
    assert 0.65 < scores["macro F1"] < 0.95
    assert {path.name for path in folder.iterdir()} == {
        "train.csv",
        "test.csv",
        "labelled.csv",
        "support.model",
        "why.html",
    }


def test_it_warns_of_nothing(notebook):
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.get("name") == "stderr"] == []


def test_what_is_saved_is_a_whole_run():
    """Site and code host show the outputs that are saved."""
    cells = [cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2
    assert all("execution" not in cell.metadata for cell in cells)  # times of day, which change with each run


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        nbformat.write(executed(temporary), NOTEBOOK)
