"""A corpus tokenized ahead of its training, on other machines or with other processes."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit._files import as_path
from sk_ulmfit.pretraining.corpora import check_corpora, check_weights, packed_folder
from sk_ulmfit.pretraining.folder import locked
from sk_ulmfit.pretraining.log import Say
from sk_ulmfit.pretraining.settings import CorpusSettings, PretrainingError, check_corpus
from sk_ulmfit.pretraining.token_ids import check_token_ids, remove_shards, work_folder, write_token_ids
from sk_ulmfit.pretraining.worker_settings import WorkerSettings
from sk_ulmfit.text.documents import is_packed
from sk_ulmfit.text.packing import packed_info


def tokenize_files(
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    weights: Sequence[float] | NDArray[np.floating[Any]] | None = None,
    vocab_size: int | None = None,
    min_frequency: int | None = None,
    language: str | None = None,
    field: str = "text",
    n_jobs: int | None = None,
    scheduler: str | None = None,
    say: Say | None = None,
) -> dict[str, Any]:
    r"""Tokenize a corpus of any size into a folder that `pretrain` takes as its corpus.

    `pretrain` does the same first, unless its corpus is such a folder. Do it ahead where the machine that trains should
    not wait for it. The corpus is cut into shards. Each is tokenized by one process and written to a folder beside
    `out`, completely or not at all. Words are counted over all shards, and ids of the vocabulary are written to `out`.

    Called again with the same arguments, it goes on with the shards that are missing. The result is the same to the
    byte however many processes there are. Shards take four bytes a token on disk until all is done, and the result two
    bytes (four with more than 65,536 words).

    Parameters
    ----------
    corpus : path-like or sequence of path-like
        One corpus or several, as in `pretrain`. Large files are cut at blank lines, or at lines of JSON. A file that
        cannot be cut, because it is compressed or has no blank lines, is read by one process.
    out : path-like
        Folder to write.
    weights : array-like of shape (n_corpora,), default=None
        Relative shares of the corpora, as in `pretrain`.
    vocab_size, min_frequency : int, default=None
        Maximum number of words, and minimum count of a word; None means 30,000 and 3.
    language, field : str, default=None, "text"
        Language code of spaCy's tokenizer (None means "en"), and field of the JSON objects that holds the text.
    n_jobs : int or None, default=None
        Number of processes; -1 means one for each core.
    scheduler : str or None, default=None
        Address of a Dask scheduler, such as ``"tcp://10.0.0.5:8786"``, whose workers do the work in place of processes
        of this machine (extra ``distributed``). They must see the corpus and `out` under the same paths. "local" means
        a process for each core.
    say : callable, default=None
        Called with each line of progress.

    Returns
    -------
    dict
        What ``corpus.json`` in the folder holds: ``n_documents``, ``n_tokens``, ``n_unknown`` and so on.

    Raises
    ------
    ValueError
        If a parameter is not valid; CorpusError if the corpus cannot be read, or `out` not be written or belongs to
        another corpus; WorkerError if a process was killed.

    See Also
    --------
    sk_ulmfit.pretraining.pretrain : Train a language model on the folder.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sk_ulmfit.pretraining import tokenize_files
    >>> folder = Path(tempfile.mkdtemp())
    >>> corpus = folder / "corpus.txt"
    >>> _ = corpus.write_text("The lamp is on.\n\nThe hub is off.\n\n" * 100)
    >>> info = tokenize_files(corpus, folder / "tokens")
    >>> info["n_documents"], info["n_tokens"], info["n_unknown"]
    (200, 1400, 0)
    """
    corpora = check_corpora(corpus)
    for path in corpora:
        if packed_folder(path) is not None:
            raise PretrainingError(f"{path} holds token ids already; pass the texts.")
    settings = CorpusSettings(field, language, vocab_size, min_frequency, check_weights(weights, corpora))
    check_corpus(settings)
    say = say or (lambda line: None)
    out = as_path(out, PretrainingError)
    if is_packed(out):
        check_token_ids(out, corpora, out, settings, say)
        remove_shards(out)
        return packed_info(out)
    work = work_folder(out)
    _make(work)
    with locked(work):
        workers = WorkerSettings(n_jobs, scheduler, (*corpora, out.parent))
        write_token_ids(corpora, out, out, settings, workers, say)
    return packed_info(out)


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise PretrainingError(
            f"The folder {folder} cannot be created ({error}); choose another place for the result."
        ) from None
