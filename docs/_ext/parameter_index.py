"""Parameters of classes and functions as entries of the index.

The search then leads from the name of a parameter to the page that describes it, and each parameter has an address.
"""

from __future__ import annotations

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

LISTS = {"Parameters", "Other Parameters"}


def terms_of(content):
    """Yield the term of each parameter of an object, without those of its methods."""
    for part in content.children:
        if isinstance(part, addnodes.desc):
            continue
        for field in part.findall(nodes.field):
            if field[0].astext() in LISTS:
                yield from field[1].findall(nodes.term)


def names_of(term):
    """Return the names that a term stands for, such as ``a, b``, without the asterisks of ``*args``."""
    strong = next(term.findall(nodes.strong), term)
    return [name.strip(" *\\") for name in strong.astext().split(",")]


class ParameterIndex(SphinxTransform):
    """Give each parameter an anchor and an entry of the index."""

    default_priority = 840  # before the entries are collected

    def apply(self, **kwargs):
        """Change the document."""
        for described in list(self.document.findall(addnodes.desc)):
            if described["objtype"] not in ("class", "function") or not described[0]["ids"]:
                continue
            for term in list(terms_of(described[-1])):
                anchors = [f"{described[0]['ids'][0]}.{name}" for name in names_of(term)]
                term["ids"] += anchors
                entries = [("single", anchor.rpartition(".")[2], anchor, "main", None) for anchor in anchors]
                term.insert(0, addnodes.index(entries=entries))


def setup(app):
    """Register the transform."""
    app.add_transform(ParameterIndex)
    return {"parallel_read_safe": True}
