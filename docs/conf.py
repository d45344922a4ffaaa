"""How Sphinx builds the site: ``sphinx-build -W --keep-going -b html docs docs/_build/html``.

The Markdown pages are plain ones, made to be read on a code host as well. What a site needs beyond that is added here while
they are read: the tree of pages follows the lists of links on the two index pages, and links to sources of the gallery
become links to its pages.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "_ext")]
os.environ.setdefault("OMP_NUM_THREADS", "1")

import addresses

import sk_ulmfit
from sk_ulmfit._text_estimator import TextEstimator

REPOSITORY, SITE = addresses.configured()

project = "sk_ulmfit"
author = "the sk_ulmfit developers"
copyright = author
version = release = sk_ulmfit.__version__

extensions = [
    "myst_parser",
    "notebook_pages",
    "numpydoc",
    "parameter_groups",
    "parameter_index",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = [
    "_build",
    "examples",
    "auto_examples/*.ipynb",
    "**.ipynb_checkpoints",
]
suppress_warnings = ["config.cache"]
templates_path = ["_templates"]
# Single backquotes in docstrings: a link where there is such a name.
default_role = "py:obj"
smartquotes = False  # what is quoted is often code: "auto"

myst_heading_anchors = 4

autosummary_generate = True
# Methods of a private base class, which are listed as those of its subclasses.
shared_members = [name for name in vars(TextEstimator) if not name.startswith("_")]
autosummary_context = {"shared_members": shared_members}
maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"
numpydoc_show_class_members = False  # the templates of the API pages list them

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "capture_repr": ("_repr_html_",),
    "ignore_repr_types": r"ULMFiT|MultiLabel|GridSearch",
    "remove_config_comments": True,
    "show_signature": False,
    "abort_on_example_error": True,
}

html_theme = "pydata_sphinx_theme"
html_title = "sk_ulmfit"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "logo": {"text": "sk_ulmfit"},
    "navbar_start": ["navbar-logo", "version-switcher" if SITE else "version"],
    "navbar_align": "left",
    "header_links_before_dropdown": 6,
    "show_prev_next": True,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc", "edit-source"],
    "footer_start": ["copyright"],
    "footer_end": ["sphinx-version"],
    "pygments_light_style": "tango",
    "pygments_dark_style": "github-dark",
}
if REPOSITORY:
    source = {"name": "Source", "url": REPOSITORY, "icon": "fa-brands fa-git-alt"}
    html_theme_options["icon_links"] = [source]
if SITE:
    html_baseurl = f"{SITE}/{version}/"
    switcher = {"json_url": f"{SITE}/versions.json", "version_match": version}
    # The file is published together with these pages, so there is nothing to check yet.
    html_theme_options |= {"switcher": switcher, "check_switcher": False}
html_sidebars = {page.stem: [] for page in HERE.glob("*.*")}

INDEXES = ("index", "guide/index")
_GALLERY = re.compile(r"\]\(((?:\.\./)*)examples/README\.rst\)")
_SCRIPT = re.compile(r"\]\(((?:\.\./)*)examples/(plot_\w+)\.py\)")
_PAGE = re.compile(r"^\* \[([^\]]*)\]\(([^)#]+)\.(?:md|rst|ipynb)\)", re.MULTILINE)


def _for_the_site(app, docname, source):
    """Adapt a Markdown page that was written for a code host."""
    if Path(app.env.doc2path(docname)).suffix != ".md":
        return
    text = _GALLERY.sub(r"](\1auto_examples/index.rst)", source[0])
    text = _SCRIPT.sub(r"](\1auto_examples/\2.rst)", text)
    if docname in INDEXES:
        pages = "\n".join(f"{title} <{page}>" for title, page in _PAGE.findall(text))
        text += f"\n```{{toctree}}\n:hidden:\n\n{pages}\n```\n"
    source[0] = text


def _break_after_brackets(app, pagename, templatename, context, doctree):
    """Let long code in the cells of the migration tables break where one would break it by hand."""
    if pagename == "migration":
        code = re.compile(r'(?<=<span class="pre">)[^<]+')
        body = code.sub(lambda match: match[0].replace("(", "(<wbr>"), context["body"])
        context["body"] = body


def _address_of_the_source(app, pagename, templatename, context, doctree):
    """Let "edit this page" lead to the file that a generated page was made from."""
    source = addresses.source_of(pagename, context.get("page_source_suffix"))
    if REPOSITORY and source:
        context["edit_address"] = f"{REPOSITORY}/edit/main/{source}"


def _write_versions(app, exception):
    if SITE and not exception:
        addresses.write_versions(app.outdir, SITE, version)


def setup(app):
    """Connect what is above."""
    app.connect("source-read", _for_the_site)
    app.connect("html-page-context", _break_after_brackets)
    # Before the theme leaves out what is empty.
    app.connect("html-page-context", _address_of_the_source, priority=400)
    app.connect("build-finished", _write_versions)
