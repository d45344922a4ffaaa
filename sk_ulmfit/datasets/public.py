"""Public multi-label data sets, downloaded and kept in scikit-learn's data home."""

from __future__ import annotations

import hashlib
import html
import os
import re
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import get_data_home
from sklearn.utils import Bunch

from sk_ulmfit._files import atomic_write
from sk_ulmfit._validation import check_choice

_TIMEOUT = 60  # seconds without data


PathLike: TypeAlias = str | os.PathLike[str]


class PublicTexts(Bunch):  # type: ignore[misc]
    """A data set as a ``Bunch``."""

    data: list[str]
    target: NDArray[np.int64]
    target_names: list[str]
    ids: NDArray[Any]
    DESCR: str

    def __repr__(self) -> str:
        return f"PublicTexts of {len(self.data):,} texts and {len(self.target_names)} labels: {', '.join(self)}"


@dataclass(frozen=True)
class _Remote:
    """A file of a data set."""

    name: str
    url: str
    sha256: str


_REUTERS = _Remote(
    "reuters21578.tar.gz",
    "https://archive.ics.uci.edu/ml/machine-learning-databases/reuters21578-mld/reuters21578.tar.gz",
    "3bae43c9b14e387f76a61b6d82bf98a4fb5d3ef99ef7e7075ff2ccbcf59f9d30",
)
_GOEMOTIONS_URL = "https://raw.githubusercontent.com/google-research/google-research/master/goemotions/data/"
_GOEMOTIONS = {
    part: _Remote(f"{part}.tsv", f"{_GOEMOTIONS_URL}{part}.tsv", checksum)
    for part, checksum in (
        ("train", "1c254a142be5c00e80d819b9ae1bbd36d94b2eeb8f4b1271846508d57e57d9c5"),
        ("dev", "575489c079c9de1097062a01738f998590d6b7ead66dd1c9fd1d2ba01fd8bc62"),
        ("test", "0587b2dd8b27b97352adbfc3fb083d46005c8946657fdc2b1ca8b1cc7f1f8be4"),
    )
}
_EMOTIONS = [
    "admiration", "amusement", "anger", "annoyance", "approval", "caring", "confusion", "curiosity", "desire",
    "disappointment", "disapproval", "disgust", "embarrassment", "excitement", "fear", "gratitude", "grief", "joy",
    "love", "nervousness", "optimism", "pride", "realization", "relief", "remorse", "sadness", "surprise", "neutral",
]  # fmt: skip

_DOCUMENT = re.compile(r"<REUTERS\b([^>]*)>(.*?)</REUTERS>", re.DOTALL)
_SPLIT = re.compile(r'LEWISSPLIT="(TRAIN|TEST)"')
_FIELDS = {name: re.compile(rf"<{name}\b[^>]*>(.*?)</{name}>", re.DOTALL) for name in ("TOPICS", "TITLE", "BODY")}
_TOPIC = re.compile(r"<D>(.*?)</D>")
_UNPROCESSED = re.compile(r'<TEXT TYPE="UNPROC">(.*?)</TEXT>', re.DOTALL)
_END_MARK = re.compile(r"\s*\breuter\s*\Z", re.IGNORECASE)
_CONTROL = re.compile(r"&#\d+;|[\x00-\x08\x0b-\x1f]")


@overload
def fetch_reuters21578(
    *,
    subset: Literal["train", "test", "all"] = "train",
    data_home: PathLike | None = None,
    path: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: Literal[False] = False,
) -> PublicTexts: ...
@overload
def fetch_reuters21578(
    *,
    subset: Literal["train", "test", "all"] = "train",
    data_home: PathLike | None = None,
    path: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: Literal[True],
) -> tuple[list[str], NDArray[np.int64]]: ...
def fetch_reuters21578(
    *,
    subset: Literal["train", "test", "all"] = "train",
    data_home: PathLike | None = None,
    path: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> PublicTexts | tuple[list[str], NDArray[np.int64]]:
    """Load Reuters-21578, Distribution 1.0: newswire stories of 1987 with any of 90 topics (ModApte split).

    Of the stories that the split assigns to training (7,770) and testing (3,019), those with at least one topic that
    occurs in both parts. A line break separates title and body.

    Licence: free distribution for research purposes only; the texts belong to Reuters Ltd. Name the data set
    "Reuters-21578, Distribution 1.0" in publications (README of the collection, David D. Lewis 1997).

    Parameters
    ----------
    subset : {"train", "test", "all"}, default="train"
        Part to load; "all" is training stories, then test stories.
    data_home : path-like, default=None
        Folder to keep the archive (8 MB) in; None means that of ``sklearn.datasets.get_data_home``.
    path : path-like, default=None
        Archive ``reuters21578.tar.gz``, or a folder with it or its ``.sgm`` files, to read in place of a download.
    download_if_missing : bool, default=True
        Whether to download the archive if it is missing; otherwise raise OSError.
    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        ``data``, list of str; ``target``, ndarray of int64, shape (n, 90); ``target_names``, list of str; ``ids``,
        ndarray of the stories' numbers (NEWID); ``DESCR``.

    Raises
    ------
    ValueError
        If a file is damaged or not the expected one.
    OSError
        If a file is missing or cannot be downloaded.

    References
    ----------
    Lewis, D. (1997), Reuters-21578 Text Categorization Test Collection, Distribution 1.0, README, section VIII.B.

    Examples
    --------
    >>> from sk_ulmfit.datasets import fetch_reuters21578
    >>> fetch_reuters21578().target.shape  # doctest: +SKIP
    (7770, 90)
    """
    check_choice("subset", subset, ("train", "test", "all"))
    source = _source(_REUTERS, data_home, path, download_if_missing)
    if source.is_file() and _sha256(source) != _REUTERS.sha256:
        raise ValueError(
            f"{source} is not {_REUTERS.name} as it was published (its checksum differs), or is damaged; get it again, "
            "or unpack it and pass the folder."
        )
    stories = [story for text in _sgml(source) for story in _stories(text)]
    topics = [{topic for split, *_, names in stories if split == part for topic in names} for part in ("TRAIN", "TEST")]
    names = sorted(topics[0] & topics[1])
    if not names:
        raise ValueError(f"{source} holds no stories of Reuters-21578 with topics in both parts.")
    parts = {"train": ["TRAIN"], "test": ["TEST"], "all": ["TRAIN", "TEST"]}[subset]
    chosen = [story for part in parts for story in stories if story[0] == part and story[3] & set(names)]
    column = {name: k for k, name in enumerate(names)}
    target = np.zeros((len(chosen), len(names)), np.int64)
    for i, (_, _, _, story_topics) in enumerate(chosen):
        target[i, [column[name] for name in story_topics if name in column]] = 1
    data = [text for _, _, text, _ in chosen]
    ids = np.array([number for _, number, _, _ in chosen], np.int64)
    return _bunch(fetch_reuters21578, data, target, names, ids, return_X_y)


@overload
def fetch_goemotions(
    *,
    subset: Literal["train", "dev", "test", "all"] = "train",
    data_home: PathLike | None = None,
    path: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: Literal[False] = False,
) -> PublicTexts: ...
@overload
def fetch_goemotions(
    *,
    subset: Literal["train", "dev", "test", "all"] = "train",
    data_home: PathLike | None = None,
    path: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: Literal[True],
) -> tuple[list[str], NDArray[np.int64]]: ...
def fetch_goemotions(
    *,
    subset: Literal["train", "dev", "test", "all"] = "train",
    data_home: PathLike | None = None,
    path: PathLike | None = None,
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> PublicTexts | tuple[list[str], NDArray[np.int64]]:
    """Load GoEmotions: comments from Reddit with any of 27 emotions, or neutral.

    The published split: 43,410 comments for training, 5,426 for development, 5,427 for testing.

    Licence: Apache 2.0 (google-research/google-research). The comments contain offensive language.

    Parameters
    ----------
    subset : {"train", "dev", "test", "all"}, default="train"
        Part to load; "all" is the three in this order.
    data_home : path-like, default=None
        Folder to keep the files (4 MB) in; None means that of ``sklearn.datasets.get_data_home``.
    path : path-like, default=None
        Folder with ``train.tsv``, ``dev.tsv`` and ``test.tsv``, to read in place of a download.
    download_if_missing, return_X_y : bool
        As in `fetch_reuters21578`.

    Returns
    -------
    Bunch
        ``data``, list of str; ``target``, ndarray of int64, shape (n, 28); ``target_names``, list of str; ``ids``,
        ndarray of the comments' ids; ``DESCR``.

    Raises
    ------
    ValueError
        If a file is damaged or not the expected one.
    OSError
        If a file is missing or cannot be downloaded.

    References
    ----------
    Demszky, D. et al. (2020), "GoEmotions: A Dataset of Fine-Grained Emotions", section 3.

    Examples
    --------
    >>> from sk_ulmfit.datasets import fetch_goemotions
    >>> fetch_goemotions().target.shape  # doctest: +SKIP
    (43410, 28)
    """
    check_choice("subset", subset, (*_GOEMOTIONS, "all"))
    data, ids, rows = [], [], []
    for part in _GOEMOTIONS if subset == "all" else [subset]:
        remote = _GOEMOTIONS[part]
        file = _source(remote, data_home, path, download_if_missing)
        if file.name != remote.name or not file.is_file():
            raise FileNotFoundError(f"{path} is not a folder with {remote.name}; pass the folder that has it.")
        for number, line in enumerate(file.read_text(encoding="utf-8").rstrip("\n").split("\n"), 1):
            cells = line.split("\t")
            emotions = cells[1].split(",") if len(cells) == 3 else [""]
            if not all(emotion.isdigit() and int(emotion) < len(_EMOTIONS) for emotion in emotions):
                raise ValueError(f"{file}, line {number}, is not a comment of GoEmotions (text, emotions, id).")
            data.append(cells[0])
            rows.append([int(emotion) for emotion in emotions])
            ids.append(cells[2])
    target = np.zeros((len(data), len(_EMOTIONS)), np.int64)
    for i, row in enumerate(rows):
        target[i, row] = 1
    return _bunch(fetch_goemotions, data, target, list(_EMOTIONS), np.array(ids), return_X_y)


def _bunch(
    function: Any, data: list[str], target: NDArray[np.int64], names: list[str], ids: NDArray[Any], return_X_y: bool
) -> PublicTexts | tuple[list[str], NDArray[np.int64]]:
    if return_X_y:
        return data, target
    description = (function.__doc__ or "").split("Parameters\n")[0].strip()
    return PublicTexts(data=data, target=target, target_names=names, ids=ids, DESCR=description)


def _source(remote: _Remote, data_home: Any, path: Any, download: bool) -> Path:
    """Return the file of a data set, or the path that the user gave if it is not a folder with that file."""
    if path is None:
        return _downloaded(remote, data_home, download)
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    return path / remote.name if (path / remote.name).is_file() else path


def _downloaded(remote: _Remote, data_home: str | os.PathLike[str] | None, download: bool) -> Path:
    """Return the file in the data home, downloaded if necessary."""
    folder = Path(get_data_home(None if data_home is None else os.fspath(data_home))) / "sk_ulmfit"
    file = folder / remote.name
    if file.is_file() and _sha256(file) == remote.sha256:
        return file
    if not download:
        raise FileNotFoundError(f"{file} is missing, and download_if_missing is False; download it from {remote.url}.")
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(remote.url, timeout=_TIMEOUT) as answer, atomic_write(file) as out:
            shutil.copyfileobj(answer, out)
            out.seek(0)
            if hashlib.file_digest(out, "sha256").hexdigest() != remote.sha256:
                raise ValueError(
                    f"The file at {remote.url} is not the expected one (its checksum differs); download it elsewhere "
                    "and pass it as path."
                )
    except urllib.error.URLError as error:
        raise OSError(
            f"{remote.url} could not be downloaded ({error.reason}); download it on a machine with network access and "
            "pass it as path."
        ) from None
    return file


def _sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _sgml(source: Path) -> Iterator[str]:
    """Yield the content of each .sgm file in an archive or a folder, sorted by name."""
    if source.is_dir():
        files = sorted(source.glob("*.sgm"))
        if not files:
            raise FileNotFoundError(f"{source} holds neither {_REUTERS.name} nor .sgm files.")
        for file in files:
            yield file.read_text(encoding="latin-1")
        return
    try:
        with tarfile.open(source) as archive:
            for member in sorted(archive.getmembers(), key=lambda member: member.name):
                opened = archive.extractfile(member) if member.name.endswith(".sgm") else None
                if opened is not None:
                    yield opened.read().decode("latin-1")
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{source} is not the archive {_REUTERS.name}, or is damaged ({error}).") from None


def _stories(sgml: str) -> Iterator[tuple[str, int, str, set[str]]]:
    """Yield part, number, text and topics of each story in the ModApte split."""
    for match in _DOCUMENT.finditer(sgml):
        attributes, content = match.groups()
        split = _SPLIT.search(attributes)
        if split is None or 'TOPICS="YES"' not in attributes:
            continue
        number = re.search(r'NEWID="(\d+)"', attributes)
        fields = (pattern.search(content) for pattern in _FIELDS.values())
        topics, title, body = (match.group(1) if match else "" for match in fields)
        unprocessed = _UNPROCESSED.search(content)
        if unprocessed is not None:
            body = re.sub(r"<[A-Z]+>.*?</[A-Z]+>", "", unprocessed.group(1))
        text = "\n".join(part for part in (_plain(title), _END_MARK.sub("", _plain(body))) if part)
        yield split.group(1), int(number.group(1)) if number else 0, text, set(_TOPIC.findall(topics))


def _plain(text: str) -> str:
    return html.unescape(_CONTROL.sub("", text)).strip()
