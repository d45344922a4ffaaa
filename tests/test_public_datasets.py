import hashlib
import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest

from sk_ulmfit.datasets import fetch_goemotions, fetch_reuters21578
from sk_ulmfit.datasets import public as public_datasets


def story(
    number, split, topics, title="Wheat up", body="Prices rose.\n    More soon.\n Reuter\n&#3;", has_topics="YES"
):
    tags = "".join(f"<D>{topic}</D>" for topic in topics)
    title = f"<TITLE>{title}</TITLE>" if title else ""
    body = f"<DATELINE>    ROME, Oct 19 - </DATELINE><BODY>{body}</BODY>" if body else ""
    return (
        f'<REUTERS TOPICS="{has_topics}" LEWISSPLIT="{split}" CGISPLIT="X" OLDID="1" NEWID="{number}">\n'
        f"<DATE>19-OCT-1987</DATE>\n<TOPICS>{tags}</TOPICS>\n<PLACES><D>italy</D></PLACES>\n"
        f"<TEXT>&#2;\n{title}{body}</TEXT>\n</REUTERS>\n"
    )


STORIES = "".join(
    [
        story(1, "TRAIN", ["grain", "wheat"]),
        story(2, "TRAIN", ["grain"], title="GM &lt;GM> &amp; co", body=""),
        story(3, "TRAIN", ["rare"]),  # not in the test part
        story(4, "TRAIN", ["grain"], has_topics="NO"),  # ModApte leaves it out
        story(5, "NOT-USED", ["grain"]),
        story(6, "TEST", ["wheat", "wheat", "grain"]),
        '<REUTERS TOPICS="YES" LEWISSPLIT="TEST" NEWID="7"><TOPICS><D>wheat</D></TOPICS>'
        '<TEXT TYPE="UNPROC">&#2;\nWHEAT TABLE\n  Tons 3\n Reuter\n&#3;</TEXT></REUTERS>',
        story(8, "TEST", []),
    ]
)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """A small archive in place of the published one."""
    path = tmp_path / "reuters21578.tar.gz"
    halves = STORIES.split('<REUTERS TOPICS="YES" LEWISSPLIT="TEST"', 1)
    with tarfile.open(path, "w:gz") as file:
        for i, half in enumerate((halves[0], '<REUTERS TOPICS="YES" LEWISSPLIT="TEST"' + halves[1])):
            content = half.encode("latin-1")
            member = tarfile.TarInfo(f"reut2-00{i}.sgm")
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    checksum = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setattr(public_datasets, "_REUTERS", replace(public_datasets._REUTERS, sha256=checksum))
    return path


@pytest.fixture
def served(archive, monkeypatch):
    """The archive as the file that is to be downloaded."""
    remote = replace(public_datasets._REUTERS, url=archive.as_uri())
    monkeypatch.setattr(public_datasets, "_REUTERS", remote)
    return archive


def test_reuters_is_the_modapte_split(archive):
    train = fetch_reuters21578(path=archive)
    assert train.target_names == ["grain", "wheat"]
    assert train.ids.tolist() == [1, 2]
    assert train.data == ["Wheat up\nPrices rose.\n    More soon.", "GM <GM> & co"]
    assert train.target.tolist() == [[1, 1], [1, 0]]
    test = fetch_reuters21578(subset="test", path=archive)
    assert test.ids.tolist() == [6, 7]
    assert test.data[1] == "WHEAT TABLE\n  Tons 3"
    assert test.target.tolist() == [[1, 1], [0, 1]]
    texts, target = fetch_reuters21578(subset="all", path=archive.parent, return_X_y=True)
    assert texts == train.data + test.data
    assert np.array_equal(target, np.vstack([train.target, test.target]))
    assert "research purposes only" in train.DESCR


def test_a_folder_of_sgml_files_does_too(archive, tmp_path):
    folder = tmp_path / "unpacked"
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    assert fetch_reuters21578(path=folder).data == fetch_reuters21578(path=archive).data


def test_downloaded_once_and_kept(served, tmp_path, monkeypatch):
    home = tmp_path / "home"
    with pytest.raises(FileNotFoundError, match="is missing, and download_if_missing is False"):
        fetch_reuters21578(data_home=home, download_if_missing=False)
    first = fetch_reuters21578(data_home=home)
    served.unlink()
    again = fetch_reuters21578(data_home=home, download_if_missing=False)
    assert again.data == first.data
    assert [file.name for file in (home / "sk_ulmfit").iterdir()] == ["reuters21578.tar.gz"]


def test_a_damaged_download_is_not_kept(served, tmp_path):
    served.write_bytes(served.read_bytes()[:-10])
    with pytest.raises(ValueError, match="is not the expected one"):
        fetch_reuters21578(data_home=tmp_path / "home")
    assert list((tmp_path / "home" / "sk_ulmfit").iterdir()) == []


def test_no_network_is_said_with_a_way_out(served, tmp_path):
    served.unlink()
    with pytest.raises(OSError, match=r"could not be downloaded .* pass it as path"):
        fetch_reuters21578(data_home=tmp_path / "home")


def test_wrong_files_are_named(tmp_path):
    (tmp_path / "reuters21578.tar.gz").write_bytes(b"no archive")
    with pytest.raises(ValueError, match=r"is not reuters21578.tar.gz as it was published"):
        fetch_reuters21578(path=tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"holds neither reuters21578.tar.gz nor .sgm files"):
        fetch_reuters21578(path=tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match=r"is not a folder with train.tsv"):
        fetch_goemotions(path=tmp_path / "empty")
    (tmp_path / "train.tsv").write_text("a comment\t99\tid\n")
    with pytest.raises(ValueError, match="line 1, is not a comment of GoEmotions"):
        fetch_goemotions(path=tmp_path)
    with pytest.raises(ValueError, match="subset must be"):
        fetch_goemotions(subset="validation")


def test_goemotions(tmp_path):
    (tmp_path / "train.tsv").write_text('So "happy" [NAME]!\t17,13\teda6yn6\nWell.\t27\ted7f85d\n', encoding="utf-8")
    train = fetch_goemotions(path=tmp_path)
    assert train.data == ['So "happy" [NAME]!', "Well."]
    assert [[train.target_names[k] for k in np.flatnonzero(row)] for row in train.target] == [
        ["excitement", "joy"],
        ["neutral"],
    ]
    assert train.ids.tolist() == ["eda6yn6", "ed7f85d"]
