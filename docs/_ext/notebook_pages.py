"""Notebooks as pages: cells and their saved outputs become Markdown, which MyST reads.

The notebook is not run here; a test does that.
"""

from __future__ import annotations

import json
import re

from myst_parser.parsers.sphinx_ import MystParser

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def _joined(text):
    return text if isinstance(text, str) else "".join(text)


def _fenced(text, language):
    fence = "`" * max(3, 1 + max(map(len, re.findall(r"`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def _output(output):
    """Give the Markdown of one output, in the richest form that there is."""
    data = output.get("data", {})
    if "image/png" in data:
        png = _joined(data["image/png"]).replace("\n", "")
        alt = _joined(data.get("text/plain", "")).strip("<>")
        return _fenced(f'<img alt="{alt}" src="data:image/png;base64,{png}">', "{raw} html")
    if "text/html" in data:
        return _fenced(f'<div class="notebook-html">{_joined(data["text/html"])}</div>', "{raw} html")
    text = _joined(output.get("text", data.get("text/plain", "")))
    return _fenced(_COLOURS.sub("", text), "{code-block} none\n:class: notebook-output\n") if text.strip() else ""


def to_markdown(text):
    """Turn the JSON of a notebook into Markdown."""
    parts = []
    for cell in json.loads(text)["cells"]:
        source = _joined(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
        elif cell["cell_type"] == "code" and source.strip():
            parts.append(_fenced(source, "python"))
            parts += filter(None, map(_output, cell["outputs"]))
    return "\n\n".join(parts) + "\n"


class NotebookParser(MystParser):
    """Parser of notebooks."""

    supported = ("notebook",)

    def parse(self, inputstring, document):
        """Parse the Markdown that the notebook amounts to."""
        super().parse(to_markdown(inputstring), document)


def setup(app):
    """Register the parser for ``.ipynb``."""
    app.add_source_suffix(".ipynb", "notebook")
    app.add_source_parser(NotebookParser)
    return {"parallel_read_safe": True}
