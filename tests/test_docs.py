"""README and docs: their code runs, their links lead somewhere, and what they name exists."""

import ast
import json
import re
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from page_code import agree, blocks_of, run_block

from sk_ulmfit import ULMFiTLanguageModel, datasets, language_model

ROOT = Path(__file__).parents[1]
BUILT = {"_build", "auto_examples", "generated"}
PAGES = sorted(
    page
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    if not BUILT & set(page.relative_to(ROOT).parts)
)
WITH_CODE = [page for page in PAGES if re.search("^```(python|output)$", page.read_text(), re.M)]
NEEDED = {"tracking.md": ("mlflow", "tensorboard", "skops")}  # packages that are not in the extra "test"
MIGRATION = ROOT / "docs" / "migration.md"


def page_id(page):
    return page.relative_to(ROOT).as_posix()


def give_few_messages(monkeypatch, n):
    """Run the code of a page on the first `n` messages of each part; all labels occur in 20."""
    whole = datasets.load_support_messages

    def few(part="train"):
        table = whole(part)
        return replace(table, texts=table.texts[:n], labels=table.labels[:n], rows=table.rows[:n])

    monkeypatch.setattr(datasets, "load_support_messages", few)


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory):
    """A language model that trains in a second."""
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    lm = ULMFiTLanguageModel(emb_dim=16, hidden_dim=24, n_layers=2, max_epochs=1, random_state=0)
    lm.fit(datasets.load_support_messages().texts[:60]).save(path)
    return path


def run_page(page, *, compare=False):
    """Run the code of a page top to bottom; return its names. Compare what it prints with what the page shows."""
    names = {"__name__": "docs"}
    for block in blocks_of(page.read_text()):
        printed = run_block(block, page, names)
        if compare and (printed.strip() or block.shown):
            assert agree(block.shown or "", printed), f"line {block.line} of {page.name} prints:\n{printed}"
    return names


@pytest.mark.parametrize("page", WITH_CODE, ids=page_id)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_runs_top_to_bottom(page, tiny_model, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for package in NEEDED.get(page.name, ()):
        pytest.importorskip(package)
    if "```output\n" in page.read_text():
        run_page(page, compare=True)
        return
    if page.name == "README.md":  # one page with the language model that users get is enough
        give_few_messages(monkeypatch, 20)
    else:
        give_few_messages(monkeypatch, 60)
        monkeypatch.setattr(language_model, "default_model", lambda *_: tiny_model)
    names = run_page(page)
    capsys.readouterr()
    if page.name == "values.md":
        assert names["model"].predict(["The lamp is dead."]).shape == (1, 3)
    else:
        assert names["clf"].predict(["The lamp is dead."]).shape == (1, 8)


def test_outputs_agree_up_to_rounding():
    assert agree("f1   0.91 of 40 texts\n", "f1 0.93 of 41 texts")
    assert agree("saved ... in ... s", "saved m.model in 3.2 s")
    assert not agree("f1 0.91 of 40 texts", "f1 0.81 of 40 texts")
    assert not agree("f1 0.91 of 40 texts", "f1 0.91 of 43 texts")
    assert not agree("['late', 'refund']", "['late', 'return']")
    assert not agree("one line", "one line\nand another")


def rows_of_tables(text):
    """Return the cells of each row of each table except the heads."""
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in row] for row in rows]
    return [row for row in rows if row[0] != "fastai"]


@pytest.mark.usefixtures("_fastai_files")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_code_in_the_tables_of_the_migration_page_runs(monkeypatch, capsys):
    give_few_messages(monkeypatch, 60)
    names = run_page(MIGRATION)
    rows = rows_of_tables(MIGRATION.read_text())
    assert len(rows) > 60
    for there, here, _remark in rows:
        code = re.fullmatch(r"`([^`]+)`|", here).group(1)
        if there and code:
            *statements, last = ast.parse(code).body
            try:
                exec(compile(ast.Module(statements, []), "migration.md", "exec"), names)
                if isinstance(last, ast.Expr):
                    value = eval(compile(ast.Expression(last.value), "migration.md", "eval"), names)
                    if hasattr(value, "_check_params"):
                        value._check_params()  # what `fit` would refuse
                else:
                    exec(compile(ast.Module([last], []), "migration.md", "exec"), names)
            except Exception as error:
                pytest.fail(f"{code}: {type(error).__name__}: {error}")
    capsys.readouterr()


@pytest.fixture
def _fastai_files(tmp_path, monkeypatch):
    """A language model as fastai publishes it, in the current folder."""
    monkeypatch.chdir(tmp_path)
    words = ["xxunk", "xxpad", "xxbos", "the", "lamp"]
    state = {
        "0.encoder.weight": torch.randn(5, 4),
        "0.encoder_dp.emb.weight": torch.randn(5, 4),
        "1.decoder.weight": torch.randn(5, 4),
        "1.decoder.bias": torch.randn(5),
    }
    for k, (n_in, n_out) in enumerate([(4, 6), (6, 4)]):
        layer = torch.nn.LSTM(n_in, n_out)
        state |= {f"0.rnns.{k}.module.{name}": tensor.detach() for name, tensor in layer.named_parameters()}
        state[f"0.rnns.{k}.weight_hh_l0_raw"] = state[f"0.rnns.{k}.module.weight_hh_l0"]
    torch.save(state, "lstm_wt103.pth")
    Path("itos_wt103.json").write_text(json.dumps(words))


def slugs_of(page):
    """Return the anchors that a code host makes of the headings."""
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.M), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page):
    assert len(page.read_text()) > 200
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)", page.read_text()):
        if not target.startswith("http"):
            path = page.parent / target if target else page
            assert path.exists(), target
            if anchor:
                assert anchor in slugs_of(path), f"{target}#{anchor}"


def test_every_page_can_be_reached():
    reached, to_read = set(), [ROOT / "README.md", ROOT / "docs" / "index.md"]
    while to_read:
        page = to_read.pop().resolve()
        if page not in reached and page.suffix == ".md":
            reached.add(page)
            links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text())
            to_read += [page.parent / link for link in links if not link.startswith("http")]
    assert {page_id(page) for page in PAGES} - {page_id(page) for page in reached if ROOT in page.parents} == set()


def code_blocks(text):
    return re.findall(r"^```text\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def files_of_tree(tree):
    """Return the paths in an indented tree of folders, each relative to its first line."""
    folders, files = [], set()
    for line in tree.splitlines()[1:]:
        name, depth = line.split()[0], (len(line) - len(line.lstrip())) // 2
        folders[depth - 1 :] = [name]
        if not name.endswith("/"):
            files.add("".join(folders[:depth]))
    return files


def defined_in(path):
    """Return the functions, classes and methods (as Class.method) of a file."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
            names |= {f"{node.name}.{child.name}" for child in node.body if isinstance(child, ast.FunctionDef)}
    return names


def test_architecture_is_that_of_the_code():
    package = ROOT / "sk_ulmfit"
    text = (ROOT / "docs" / "architecture.md").read_text()
    _flow, tree, contracts = code_blocks(text)

    files = {path.relative_to(package).as_posix() for path in package.rglob("*") if path.is_file()}
    files = {file for file in files if "__pycache__" not in file and not file.endswith("__init__.py")}
    assert files_of_tree(tree) == files

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers, *others = settings
    assert " ".join(contracts.split()) == " ".join(
        [" > ".join(layers["layers"]), *[contract["name"] for contract in others]]
    )

    places = re.findall(r"`([\w/]+\.py)::([\w.]+)`", text)
    assert len(places) > 30
    assert [f"{file}::{name}" for file, name in places if name not in defined_in(package / file)] == []


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_source_files_that_a_page_names_exist(page):
    """Files are named by their paths from the root of the repository."""
    named = re.findall(r"\b((?:sk_ulmfit|tests|docs|benchmarks)/[\w./-]+\.py)\b", page.read_text())
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_files_that_the_makefile_names_exist():
    named = set(re.findall(r"tests/test_\w+\.py", (ROOT / "Makefile").read_text()))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()
