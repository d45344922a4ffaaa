"""Headings between the parameters of an estimator, from the list "Parameters by group" in its docstring."""

from __future__ import annotations

import inspect
import re

_LIST = re.compile(r"^Parameters by group:\n\n((?:\* .*\n(?: .*\n)*)+)", re.MULTILINE)
_ITEM = re.compile(r"^\* ([^:]+):((?:.*\n)(?: .*\n)*)", re.MULTILINE)


def groups_of(docstring):
    """Return the names of the parameters by title of their group, in order; empty if there is no such list."""
    found = _LIST.search(inspect.cleandoc(docstring or ""))
    return {title: re.findall(r"`(\w+)`", names) for title, names in _ITEM.findall(found[1])} if found else {}


def with_headings(lines, groups):
    """Put the title of each group before its first parameter, in lines as numpydoc writes them."""
    titles = {names[0]: title for title, names in groups.items()}
    parts = []
    for line in lines:
        name = re.match(r"( +)\*\*(\w+)(?:, [\w, ]+)?\*\*", line)
        if name and name[2] in titles:
            parts += [f"{name[1]}.. rubric:: {titles.pop(name[2])}", ""]
        parts.append(line)
    return parts


def _add_headings(app, what, name, obj, options, lines):
    if what == "class" and (groups := groups_of(obj.__doc__)):
        lines[:] = with_headings(lines, groups)


def setup(app):
    """Work after numpydoc, whose priority is 500."""
    app.connect("autodoc-process-docstring", _add_headings, priority=600)
    return {"parallel_read_safe": True}
