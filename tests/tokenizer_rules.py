"""Write the rules of spaCy's tokenizers to ``sk_ulmfit/text/rules.zip``.

Run it after an update of spaCy: ``python tests/tokenizer_rules.py``. If rules have changed, texts get other tokens
than before: raise `TOKENIZER_VERSION` in ``sk_ulmfit/text/tokenizer.py``.
"""

import json
import pkgutil
import re
import zipfile

import spacy
import spacy.lang
from spacy.attrs import ORTH
from spacy.tokenizer import Tokenizer

from sk_ulmfit.text.rules import RULES

SPACY_VERSION = "spacy-version"  # name of the entry that says where the rules are from


def rules_of(language: str) -> dict | None:
    """Return the rules of a language, as `RuleTokenizer` takes them; None if its tokenizer has more than rules."""
    try:
        tokenizer = spacy.blank(language).tokenizer
    except (ImportError, ValueError):  # a package for this language is not installed
        return None
    if type(tokenizer) is not Tokenizer:
        return None
    return {
        "prefix": _expression(tokenizer.prefix_search),
        "suffix": _expression(tokenizer.suffix_search),
        "infix": _expression(tokenizer.infix_finditer),
        "token_match": _expression(tokenizer.token_match),
        "url_match": _expression(tokenizer.url_match),
        "special_cases": {
            case: [token.get(ORTH, token.get("ORTH")) for token in tokens] for case, tokens in tokenizer.rules.items()
        },
    }


def _expression(method) -> list | None:
    if method is None:
        return None
    assert isinstance(method.__self__, re.Pattern)
    return [method.__self__.pattern, method.__self__.flags]


def main() -> None:
    """Write the file; equal rules give equal bytes."""
    with zipfile.ZipFile(RULES, "w") as file:
        _add(file, SPACY_VERSION, spacy.__version__)
        for module in pkgutil.iter_modules(spacy.lang.__path__):
            rules = rules_of(module.name) if module.ispkg else None
            if rules is not None:
                _add(file, f"{module.name}.json", json.dumps(rules))


def _add(file: zipfile.ZipFile, name: str, text: str) -> None:
    file.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED, compresslevel=9)


if __name__ == "__main__":
    main()
