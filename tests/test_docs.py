"""README and docs: their code runs, and their links lead somewhere."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sk_ulmfit import datasets

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])


@pytest.fixture
def _few_messages(monkeypatch):
    """The code on the pages is run on sixty messages of each part, in which all labels occur."""
    whole = datasets.load_support_messages

    def few(part="train"):
        table = whole(part)
        return replace(table, texts=table.texts[:60], labels=table.labels[:60], rows=table.rows[:60])

    monkeypatch.setattr(datasets, "load_support_messages", few)


@pytest.mark.usefixtures("_few_messages")
@pytest.mark.parametrize("page", [p for p in PAGES if "```python" in p.read_text()], ids=lambda p: p.name)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_runs_top_to_bottom(page, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    names = {"__name__": "docs"}
    for match in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        line = text[: match.start()].count("\n") + 1
        exec(compile("\n" * line + match.group(1), page, "exec"), names)
    capsys.readouterr()
    assert names["clf"].predict(["The lamp is dead."]).shape == (1, 8)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    assert len(page.read_text()) > 200
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text()):
        if not target.startswith("http"):
            path = page.parent / target if target else page
            assert path.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE)
                slugs = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
                assert anchor in slugs, f"{target}#{anchor}"


def test_architecture_names_every_module():
    text = (ROOT / "docs" / "architecture.md").read_text()
    modules = {path.name for path in (ROOT / "sk_ulmfit").glob("*.py")} - {"__init__.py", "__main__.py"}
    assert {name for name in modules if f"`{name}`" not in text} == set()
