"""The notebooks run from top to bottom in an empty folder.

``python tests/test_tutorial.py`` runs them and saves their outputs; name some to run only these. Reuters-21578 is downloaded
unless ``--reuters`` gives its path.
"""

import argparse
import ast
import html
import importlib
import json
import re
import tempfile
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from sk_ulmfit.datasets import load_support_messages

DOCS = Path(__file__).parents[1] / "docs"
NOTEBOOKS = sorted(DOCS.glob("*.ipynb"))
FROM_A_PATH = """
from pathlib import Path
from sk_ulmfit.datasets import public
public._downloaded = lambda *args: Path({path!r})
"""


def executed(name, folder, *more_code, reuters=None):
    """Run a notebook in a folder, with Reuters-21578 from a path; a cell that raises ends it."""
    notebook = nbformat.read(DOCS / name, as_version=4)
    notebook.cells += [nbformat.v4.new_code_cell(code) for code in more_code]
    options = {"timeout": 600, "record_timing": False, "coalesce_streams": True}
    client = NotebookClient(notebook, resources={"metadata": {"path": str(folder)}}, **options)
    with client.setup_kernel():
        if reuters:
            client.kc.execute(FROM_A_PATH.format(path=str(reuters)), silent=True)
        for index, cell in enumerate(notebook.cells):
            client.execute_cell(cell, index)
    return notebook


RARE = {"cocoa": 200, "tin": 70, "zinc": 25}  # one of how many stories has the topic


def write_stories(path, n_copies=4):
    """Write support messages as if they were stories of Reuters-21578, each several times, some with rare topics."""
    texts = []
    for part in ("train", "test"):
        messages = load_support_messages(part)
        for i, (text, labels) in enumerate(zip(messages.texts * n_copies, messages.labels * n_copies, strict=True)):
            names = ["wheat" if label == "delivery" else label for label in labels]
            names += [name for name, every in RARE.items() if i % every == 0]
            topics = "".join(f"<D>{name}</D>" for name in names)
            texts.append(
                f'<REUTERS TOPICS="YES" LEWISSPLIT="{part.upper()}" NEWID="{i}"><TOPICS>{topics}</TOPICS><TEXT>'
                f"<TITLE>Message {i}</TITLE><BODY>{html.escape(text)}</BODY></TEXT></REUTERS>"
            )
    path.write_text("\n".join(texts), encoding="latin-1", errors="replace")


def scores(notebook):
    return json.loads(notebook.cells[-1].outputs[-1].text)


def files(folder):
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return {path.stem: tmp_path_factory.mktemp(path.stem) for path in NOTEBOOKS}


@pytest.fixture(scope="module")
def tutorial(folders):
    return executed("tutorial.ipynb", folders["tutorial"], "import json\nprint(json.dumps(scores))")


@pytest.fixture(scope="module")
def questions(folders):
    code = 'import json\nprint(json.dumps({"labels": clf.n_labels_, "F1": clf.score(held_out, true_labels)}))'
    return executed("questions.ipynb", folders["questions"], code)


@pytest.fixture(scope="module")
def reuters(folders, tmp_path_factory):
    stories = tmp_path_factory.mktemp("stories")
    write_stories(stories / "made-up.sgm")
    code = "import json\nprint(json.dumps([float(f1_score(y[held_out], decisions, average='micro'))]))"
    return executed("reuters.ipynb", folders["reuters"], code, reuters=stories)


def test_the_tutorial_runs_and_its_scores_are_plausible(tutorial, folders):
    found = scores(tutorial)
    assert found["same after loading"]
    assert 0.65 < found["micro F1"] < 0.95
    assert 0.65 < found["macro F1"] < 0.95
    assert files(folders["tutorial"]) == {"train.csv", "test.csv", "labelled.csv", "support.model", "why.html"}


def test_the_questions_are_answered_and_the_files_are_those_announced(questions, folders):
    assert scores(questions)["labels"] == 8
    assert 0.4 < scores(questions)["F1"] < 0.9
    assert len(files(folders["questions"])) == 6
    assert "six files" in questions.cells[0].source


def test_the_news_notebook_runs_on_made_up_stories(reuters, folders):
    assert scores(reuters)[0] > 0.65
    assert files(folders["reuters"]) == set()


@pytest.mark.parametrize("name", ["tutorial", "questions", "reuters"])
def test_it_warns_of_nothing(name, request):
    notebook = request.getfixturevalue(name)
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert [output for output in outputs if output.get("name") == "stderr"] == []


# --- What is saved ---


def saved(path):
    return nbformat.read(path, as_version=4).cells


def saved_outputs(path):
    return [output for cell in saved(path) for output in cell.get("outputs", [])]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_saved_is_a_whole_run(path):
    """Site and code host show the outputs that are saved."""
    cells = [cell for cell in saved(path) if cell.cell_type == "code"]
    assert [cell.execution_count for cell in cells] == list(range(1, len(cells) + 1))
    assert sum(bool(cell.outputs) for cell in cells) > len(cells) / 2
    assert all("execution" not in cell.metadata for cell in cells)  # times of day, which change with each run
    assert {output.output_type for output in saved_outputs(path)} <= {"stream", "display_data", "execute_result"}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_is_saved_names_no_folder_of_the_machine(path):
    texts = [json.dumps(output) for output in saved_outputs(path)]
    texts = [re.sub(r'"image/png": "[^"]*"', "", text) for text in texts]
    assert [
        text for text in texts if re.search(r"Traceback|/(home|tmp|opt|root|work|usr|Users)/|0x[0-9a-f]{6}", text)
    ] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_begins_with_what_it_needs(path):
    first = saved(path)[0].source
    assert first.startswith("# ")
    plots = any("plotting" in cell.source or "matplotlib" in cell.source for cell in saved(path))
    assert re.search(r"^pip install .*\.", first, re.MULTILINE)
    assert ('".[plot]"' in first) == plots
    assert f"docs/{path.name}" in first


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_all_code_that_it_shows_uses_names_that_exist(path):
    """Code in text cells is not executed, so its imports are looked up."""
    blocks = [cell.source for cell in saved(path) if cell.cell_type == "code"]
    for cell in saved(path):
        if cell.cell_type == "markdown":
            blocks += re.findall(r"```python\n(.*?)```", cell.source, re.DOTALL)
    for node in (node for block in blocks for node in ast.walk(ast.parse(block))):
        if isinstance(node, ast.ImportFrom) and node.module.startswith("sk_ulmfit"):
            module = importlib.import_module(node.module)
            assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_its_links_lead_somewhere(path):
    text = "\n".join(cell.source for cell in saved(path) if cell.cell_type == "markdown")
    targets = [target for target in re.findall(r"\]\(([^)#\s]+)", text) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not (DOCS / target).exists()] == []


def test_the_picture_of_the_front_page_shows_what_a_model_says(tutorial_model):
    """Percentages beside the labels, and the message above them, are those of the model of the tutorial."""
    picture = (DOCS / "_static" / "labels.svg").read_text()
    message = html.unescape(re.search(r"<desc>(.*?)</desc>", picture).group(1))
    shown = {name: float(percent) / 100 for name, percent in re.findall(r">(\w+)</text><!--(\d+)%-->", picture)}
    predicted = dict(zip(tutorial_model.label_names_, tutorial_model.predict_proba([message])[0], strict=True))
    assert set(shown) == set(predicted)
    assert max(abs(shown[name] - predicted[name]) for name in shown) < 0.03
    assert set(re.findall(r'yes"[^>]*>(\w+)<', picture)) == set(tutorial_model.predict_labels([message])[0])


@pytest.fixture
def tutorial_model(tutorial, folders):
    from sk_ulmfit import ULMFiTMultiLabelClassifier

    return ULMFiTMultiLabelClassifier.load(folders["tutorial"] / "support.model")


def save_all(names, reuters):
    """Run notebooks and save their outputs."""
    for name in names:
        with tempfile.TemporaryDirectory() as temporary:
            nbformat.write(executed(f"{name}.ipynb", temporary, reuters=reuters), DOCS / f"{name}.ipynb")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=[path.stem for path in NOTEBOOKS])
    parser.add_argument("--reuters", help="archive of Reuters-21578, or a folder of its .sgm files")
    given = parser.parse_args()
    save_all(given.names, given.reuters)
