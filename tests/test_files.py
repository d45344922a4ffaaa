"""Files are written completely or not at all, whatever happens on the way."""

import gzip
import lzma
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sk_ulmfit import _files
from sk_ulmfit._files import LONGEST_LINE, NotAFileError, atomic_write, check_writable_folder
from sk_ulmfit.datasets import load_folders, load_table
from sk_ulmfit.text.documents import CorpusError, read_documents


def write(path, *parts):
    with atomic_write(path) as file:
        for part in parts:
            file.write(part)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def leave_behind(folder, name=".sk_ulmfit-0123456789abcdef.part", age=0.0):
    """Make a temporary file as a killed process leaves it."""
    path = folder / name
    path.write_bytes(b"half")
    os.utime(path, (time.time() - age,) * 2)
    return path


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.binary(max_size=50), max_size=6),
    old=st.none() | st.binary(max_size=30),
    fail_at=st.sampled_from(["nowhere", "write", "flush", "fsync", "chmod", "replace"]),
    part=st.integers(0, 5),
    error=st.sampled_from([OSError(28, "No space left"), KeyboardInterrupt(), ValueError("bad row"), SystemExit(1)]),
)
def test_the_file_has_the_old_or_the_whole_new_content_and_nothing_is_left(parts, old, fail_at, part, error):
    def fail(*args, **kwargs):
        raise error

    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        path = folder / "out.csv"
        if old is not None:
            path.write_bytes(old)
        if fail_at in ("fsync", "replace"):
            patch.setattr(os, fail_at, fail)
        if fail_at == "chmod":
            patch.setattr(Path, "chmod", fail)
        fails = {"nowhere": False, "chmod": old is not None}.get(fail_at, True)
        try:
            with atomic_write(path) as file:
                for index, content in enumerate([*parts, b"end"]):
                    if fail_at == "write" and index == min(part, len(parts)):
                        raise error
                    file.write(content)
                if fail_at == "flush":
                    file.close()  # a closed file cannot be flushed
        except (type(error), ValueError):
            assert fails
        else:
            assert not fails
        expected = old if fails else b"".join(parts) + b"end"
        assert (path.read_bytes() if path.exists() else None) == expected
        assert names(folder) == ([] if expected is None else ["out.csv"])


def test_the_old_content_stays_until_the_end_and_under_its_name(tmp_path):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
        assert len(names(tmp_path)) == 2
    assert path.read_bytes() == b"new"


def test_threads_that_write_the_same_file_never_mix(tmp_path):
    path = tmp_path / "out"
    contents = [bytes([65 + i]) * 5000 for i in range(8)]
    seen, failed = set(), []
    done = threading.Event()

    def work(content):
        try:
            for _ in range(25):
                write(path, content[:2000], content[2000:])
        except BaseException as error:
            failed.append(error)

    def watch():
        while not done.is_set():
            if path.exists():
                seen.add(path.read_bytes())

    watcher = threading.Thread(target=watch)
    workers = [threading.Thread(target=work, args=(content,)) for content in contents]
    for thread in (watcher, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    watcher.join()
    assert not failed
    assert seen <= set(contents)
    assert names(tmp_path) == ["out"]


SLOW_WRITER = """
import sys, time
from sk_ulmfit._files import atomic_write
with atomic_write(sys.argv[1]) as file:
    file.write(b"half")
    file.flush()
    print("begun", flush=True)
    sys.stdin.readline()
"""


def slow_writer(path):
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "begun\n"
    return process


def test_what_a_killed_process_left_is_removed_by_the_next_write_in_the_folder(tmp_path):
    process = slow_writer(tmp_path / "out")
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert len(names(tmp_path)) == 1
    write(tmp_path / "other", b"x")
    assert names(tmp_path) == ["other"]


def test_what_another_process_is_writing_is_left_to_it(tmp_path):
    path = tmp_path / "out"
    process = slow_writer(path)
    (live,) = names(tmp_path)
    os.utime(tmp_path / live, (0, 0))
    write(path, b"mine")
    assert names(tmp_path) == [live, "out"]
    process.communicate("go on\n")
    assert path.read_bytes() == b"half"
    assert names(tmp_path) == ["out"]


@pytest.mark.parametrize(("age", "stays"), [(3600, True), (2 * 24 * 3600, False)])
def test_without_locks_only_a_leftover_of_yesterday_is_removed(tmp_path, monkeypatch, age, stays):
    def no_locks(*args):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(_files.fcntl, "flock", no_locks)
    left = leave_behind(tmp_path, age=age)
    write(tmp_path / "out", b"x")
    assert left.exists() == stays
    assert (tmp_path / "out").read_bytes() == b"x"


def test_where_there_are_no_locks_at_all_files_are_written_too(tmp_path, monkeypatch):
    monkeypatch.setattr(_files, "fcntl", None)
    left = leave_behind(tmp_path, age=2 * 24 * 3600)
    write(tmp_path / "out", b"x")
    assert not left.exists()
    assert names(tmp_path) == ["out"]


def test_files_of_others_are_no_leftovers(tmp_path):
    others = [".sk_ulmfit-notes.txt", ".out.part", "sk_ulmfit-1.part", ".sk_ulmfit-run"]
    for name in others:
        leave_behind(tmp_path, name, age=1e6)
    (tmp_path / ".sk_ulmfit-folder.part").mkdir()
    os.mkfifo(tmp_path / ".sk_ulmfit-pipe.part")
    (tmp_path / ".sk_ulmfit-link.part").symlink_to(tmp_path / ".out.part")
    before = names(tmp_path)
    write(tmp_path / "out", b"x")
    assert names(tmp_path) == sorted([*before, "out"])


def test_a_temporary_name_that_is_taken_is_not_used(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / ".sk_ulmfit-aa.part").symlink_to(victim)
    tokens = iter(["aa", "bb"])
    monkeypatch.setattr(_files.secrets, "token_hex", lambda n: next(tokens))
    write(tmp_path / "out", b"x")
    assert victim.read_bytes() == b"precious"
    assert (tmp_path / "out").read_bytes() == b"x"


def test_a_file_that_is_removed_between_opening_and_locking_is_made_again(tmp_path, monkeypatch):
    lock, calls = _files._lock, []

    def removed_once(file):
        if not calls:
            os.unlink(file.name)
        calls.append(file.name)
        return lock(file)

    monkeypatch.setattr(_files, "_lock", removed_once)
    write(tmp_path / "out", b"x")
    assert len(calls) == 2
    assert (tmp_path / "out").read_bytes() == b"x"


def test_a_link_is_followed_also_to_a_file_that_does_not_exist_yet(tmp_path):
    (tmp_path / "there").mkdir()
    link, target = tmp_path / "link", tmp_path / "there" / "target"
    link.symlink_to(target)
    for content in (b"new", b"replaced"):
        write(link, content)
        assert link.is_symlink()
        assert target.read_bytes() == content
        assert names(tmp_path / "there") == ["target"]


@pytest.mark.parametrize(
    ("kind", "message"),
    [("folder", "is a folder"), ("pipe", "is a named pipe"), ("/dev/null", "is a device"), ("link", "is a device")],
)
def test_what_is_no_regular_file_is_refused_and_left_alone(tmp_path, kind, message):
    path = Path(kind) if kind.startswith("/") else tmp_path / kind
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/null")
    before = path.stat()
    with pytest.raises(NotAFileError, match=f"{message}; give the name of a file to write") as caught:
        write(path, b"x")
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert os.path.samestat(before, path.stat())


@pytest.mark.parametrize("name", ["a" * 250, "ü" * 125, "b" * 255])
def test_long_names(tmp_path, name):
    for content in (b"one", b"two"):
        write(tmp_path / name, content)
    assert (tmp_path / name).read_bytes() == b"two"
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path, umask):
    before = os.umask(umask)
    try:
        write(tmp_path / "out", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o664, 0o400])
def test_a_replaced_file_keeps_its_permissions_and_is_never_open_to_others(tmp_path, mode):
    path = tmp_path / "out"
    path.write_bytes(b"old")
    path.chmod(mode)
    with atomic_write(path) as file:
        assert not stat.S_IMODE(os.stat(file.name).st_mode) & ~(mode | 0o600)
        file.write(b"new")
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"new"


def test_a_place_that_cannot_be_written_is_named_by_the_file_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/no/out'"):
        write(tmp_path / "no" / "out", b"x")
    with pytest.raises(FileNotFoundError, match="out"):
        check_writable_folder(tmp_path / "no" / "out")
    check_writable_folder(tmp_path / "out")
    assert names(tmp_path) == []


# --- a few bytes that decompress to gigabytes ---------------------------------

TEN_GIGABYTES = 10 * 2**30
MOST_MEMORY, MOST_SECONDS = 100 * 2**20, 10


def write_bomb(file, compress, start, unit):
    """Write a compressed file of `start` and ten gigabytes of `unit`, as one compressed part many times over."""
    part = unit * (2**24 // len(unit))
    file.write_bytes(compress(start) + compress(part) * (TEN_GIGABYTES // len(part)))
    assert file.stat().st_size < 50e6


def refused(read, error, message):
    """Check that reading is refused within seconds and little memory."""
    begin = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(error, match=message) as raised:
            read()
        assert tracemalloc.get_traced_memory()[1] < MOST_MEMORY
    finally:
        tracemalloc.stop()
    assert time.monotonic() - begin < MOST_SECONDS
    assert len(str(raised.value)) < 300


@pytest.mark.parametrize(
    ("name", "start", "unit", "message"),
    [
        ("row.csv.gz", b"text,labels\n", b"a", "row that begins in line 2: longer than 8,388,608 characters"),
        ("row.csv.xz", b"text,labels\n", b"a", "row that begins in line 2: longer than"),
        ("header.csv.gz", b"", b"a", "row that begins in line 1: longer than"),
        ("columns.csv.gz", b"", b"a,", "row that begins in line 1: longer than"),
        (
            "quoted.csv.gz",
            b'text,labels\n"',
            b"many lines of a cell" * 50 + b"\n",
            "row that begins in line 2: longer than",
        ),
        ("row.tsv.gz", b"text\tlabels\n", "é".encode(), "row that begins in line 2: longer than"),
        ("row.jsonl.gz", b'{"text": "a"}\n{"text": "', b"a", "line 2: longer than 8,388,608 characters"),
    ],
)
def test_a_table_of_one_endless_line_is_refused_at_once(tmp_path, name, start, unit, message):
    compress = lzma.compress if name.endswith("xz") else gzip.compress
    write_bomb(tmp_path / name, compress, start, unit)
    refused(lambda: load_table(tmp_path / name, text="text", label_column="labels"), ValueError, message)


def test_a_corpus_and_a_folder_of_endless_lines_are_refused_at_once(tmp_path):
    write_bomb(tmp_path / "first.jsonl", gzip.compress, b'{"text": "', b"a")
    refused(lambda: next(read_documents(tmp_path / "first.jsonl")), CorpusError, "line 1: longer than")
    write_bomb(tmp_path / "second.jsonl", gzip.compress, b'{"text": "a"}\n{"text": "', b"a")
    refused(lambda: list(read_documents(tmp_path / "second.jsonl")), CorpusError, "line 2: longer than")
    (tmp_path / "folders" / "pos").mkdir(parents=True)
    write_bomb(tmp_path / "folders" / "pos" / "1.txt", gzip.compress, b"", b"words and ")
    refused(lambda: load_folders(tmp_path / "folders"), ValueError, r"1\.txt has more than 8,388,608 characters")


def test_the_longest_row_is_read(tmp_path):
    text = "a" * (LONGEST_LINE - len(",x\n"))
    (tmp_path / "long.csv").write_text(f"text,labels\n{text},x\n{text},x\n", newline="")
    table = load_table(tmp_path / "long.csv", text="text", label_column="labels")
    assert [len(text) for text in table.texts] == [LONGEST_LINE - 3] * 2
    (tmp_path / "long.csv").write_text(f"text,labels\n{text}a,x\n", newline="")
    with pytest.raises(ValueError, match="line 2: longer than"):
        load_table(tmp_path / "long.csv", text="text", label_column="labels")
