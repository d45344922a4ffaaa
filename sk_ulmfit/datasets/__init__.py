"""Texts and labels from tables, folders and public data sets."""

from sk_ulmfit.datasets.fields import TextFieldJoiner
from sk_ulmfit.datasets.folders import load_folders
from sk_ulmfit.datasets.loaders import load_support_messages, load_table
from sk_ulmfit.datasets.public import fetch_goemotions, fetch_reuters21578
from sk_ulmfit.datasets.table_writing import write_table
from sk_ulmfit.datasets.text_table import TextTable
from sk_ulmfit.labels import NamedIndicator

__all__ = [
    "NamedIndicator",
    "TextFieldJoiner",
    "TextTable",
    "fetch_goemotions",
    "fetch_reuters21578",
    "load_folders",
    "load_support_messages",
    "load_table",
    "write_table",
]
