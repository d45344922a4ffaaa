"""What is published: licences, addresses, the README on a package index, Python versions, the Dockerfile."""

import importlib.util
import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
README = (ROOT / "README.md").read_text()
EXAMPLE = "https://example.org/someone/sk_ulmfit"


@pytest.fixture(scope="module")
def hatch_build():
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def links(text):
    return re.findall(r"(?<!!)\[[^]]*\]\(([^)]+)\)", text)


def pictures(text):
    return re.findall(r"!\[[^]]+\]\(([^)]+)\)", text)


def test_links_of_the_readme_are_absolute_on_an_index(hatch_build):
    relative = [link for link in links(README) if not link.startswith("http")]
    assert "docs/quickstart.md" in relative
    shown = hatch_build.for_index(README, EXAMPLE, "1.2.3")
    assert links(shown) == [f"{EXAMPLE}/blob/v1.2.3/{link}" if link in relative else link for link in links(README)]
    without = hatch_build.for_index(README, "", "1.2.3")
    assert links(without) == [link for link in links(README) if link not in relative]
    assert "* Quickstart: your own data" in without


def test_the_picture_of_the_readme_is_that_of_the_repository_on_an_index(hatch_build):
    """A page of a code host (blob) is no picture, and a path leads nowhere on an index."""
    (path,) = pictures(README)
    assert (ROOT / path).suffix == ".svg"
    assert (ROOT / path).exists()
    assert pictures(hatch_build.for_index(README, EXAMPLE, "1.2.3")) == [f"{EXAMPLE}/raw/v1.2.3/{path}"]
    without = hatch_build.for_index(README, "", "1.2.3")
    assert pictures(without) == []
    assert "\n!" not in without


def test_the_readme_is_read_in_two_minutes():
    assert len(README.splitlines()) <= 90


def test_pictures_of_the_readme_come_from_the_repository_or_are_left_out(hatch_build):
    text = "Before ![Gain by texts](docs/_static/gain.svg) after, [![CI](https://ci.example/badge)](docs/ci.md)"
    with_address = hatch_build.for_index(text, EXAMPLE, "1.2.3")
    assert f"![Gain by texts]({EXAMPLE}/raw/v1.2.3/docs/_static/gain.svg)" in with_address
    assert "![CI](https://ci.example/badge)" in with_address
    assert "gain" not in hatch_build.for_index(text, "", "1.2.3")


def test_addresses_of_the_project_are_real_or_absent(hatch_build):
    config = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["metadata"]["hooks"]["custom"]
    assert not [name for name in ("repository", "site") if "example" in config[name]]
    assert set(hatch_build.addresses("", "1.2.3")) == {"Paper"}
    whole = hatch_build.addresses(EXAMPLE, "1.2.3")
    assert all(address.startswith("https://") for address in whole.values())
    for address in whole.values():
        if "/blob/" in address:
            assert (ROOT / address.split("/blob/v1.2.3/")[1]).exists()
    published = hatch_build.addresses(EXAMPLE, "1.2.3", "https://docs.example.org")
    assert published["Documentation"] == "https://docs.example.org/1.2.3/"


def test_the_hook_writes_what_pyproject_calls_dynamic(hatch_build):
    metadata = {}
    hatch_build.IndexPage(str(ROOT), {"repository": EXAMPLE + "/"}).update(metadata)
    assert set(metadata) | {"version"} == set(PROJECT["dynamic"])
    assert metadata["urls"]["Issues"] == f"{EXAMPLE}/issues"
    assert "//blob" not in metadata["readme"]["text"]


def test_each_licence_has_its_text_under_its_spdx_name():
    named = set(re.split(r" (?:AND|OR) ", PROJECT["license"]))
    texts = {path.stem for path in (ROOT / "LICENSES").glob("*.txt")}
    assert named == texts
    assert (ROOT / "LICENSE").read_text() == (ROOT / "LICENSES" / "BSD-3-Clause.txt").read_text()
    assert (ROOT / "LICENSES" / "MIT.txt").read_text() == (
        ROOT / "sk_ulmfit" / "text" / "rules-LICENSE.txt"
    ).read_text()
    assert "Attribution-ShareAlike 4.0 International" in (ROOT / "LICENSES" / "CC-BY-SA-4.0.txt").read_text()
    assert not [name for name in PROJECT["classifiers"] if name.startswith("License")]  # PEP 639


def test_the_licence_of_each_bundled_model_is_that_of_the_project():
    for card in (ROOT / "sk_ulmfit" / "pretrained").glob("*.md"):
        offered = re.search(r"weights are offered under ([^.]*\d\.\d|the same licence)", card.read_text()).group(1)
        if offered == "the same licence":
            offered = re.search(r"licensed under\s+\[([^\]]+)\]", card.read_text()).group(1)
        spdx = re.sub(r"[ -]+", "-", offered.strip())
        assert spdx in PROJECT["license"].split(" AND ")
        assert f"Weights: {offered.strip()}" in README


def test_python_versions_are_those_that_the_readme_names():
    prefix = "Programming Language :: Python :: 3."
    minors = [int(name.removeprefix(prefix)) for name in PROJECT["classifiers"] if name.startswith(prefix)]
    assert minors == [11, 12, 13, 14]
    assert PROJECT["requires-python"] == f">=3.{minors[0]}"
    assert f"3.{minors[0]} or later" in README
    assert f"3.{minors[0]} to 3.{minors[-1]}" in (ROOT / "CONTRIBUTING.md").read_text()


# --- The Dockerfile ---

DOCKERFILE = (ROOT / "Dockerfile").read_text()


def instructions():
    """Return name and arguments of each instruction, comments left out and lines joined."""
    text = re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in text.splitlines() if line.strip()]


def test_the_image_copies_what_exists_and_the_context_holds_it():
    context = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = [shlex.split(arguments)[:-1] for name, arguments in instructions() if name == "COPY"]
    sources = {source for one in copied if not one[0].startswith("--from") for source in one}
    assert sources == context
    assert [source for source in sources if not (ROOT / source).exists()] == []


def test_the_image_installs_extras_that_exist():
    extras = set(re.findall(r"\.\[([\w,]+)\]", DOCKERFILE))
    assert extras
    assert {name for one in extras for name in one.split(",")} <= set(PROJECT["optional-dependencies"])


def test_the_image_runs_as_a_user_with_a_health_check_and_a_command_that_exists():
    last = {}
    for name, arguments in instructions():
        last[name] = arguments
    names = [name for name, _ in instructions()]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name == "FROM")
    assert last["USER"] not in ("0", "root")
    assert "/health" in last["HEALTHCHECK"]
    assert {arguments.split(" AS ")[0] for name, arguments in instructions() if name == "FROM"} == {"python:3.11-slim"}
    command = json.loads(last["ENTRYPOINT"])
    assert command[0].endswith("/sk-ulmfit")
    assert (ROOT / "sk_ulmfit" / "cli" / f"{command[1]}.py").exists()
    port = json.loads(last["CMD"])[-1]
    assert last["EXPOSE"] == port
    assert f":{port}/" in last["HEALTHCHECK"]
