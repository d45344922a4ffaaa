import csv
import gzip
import itertools
import tracemalloc
import warnings

import numpy as np
import pytest
from conftest import make_corpus, tiny_classifier, tiny_lm

import sk_ulmfit.text.encoding
import sk_ulmfit.training.linear_training
from sk_ulmfit.datasets import load_table
from sk_ulmfit.text.documents import CorpusError
from sk_ulmfit.text.encoding import encode_texts, tokenize_texts
from sk_ulmfit.text.streams import StreamedTexts, chained
from sk_ulmfit.text.tokenizer import tokenize_corpus
from sk_ulmfit.text.vocabulary import Vocabulary

TEXTS, LABELS = make_corpus(60)


def streamed(texts):
    return StreamedTexts(lambda: iter(texts), len(texts))


def write_csv(path, texts=TEXTS, labels=LABELS):
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["body", "topics"])
        writer.writerows([text, ";".join(names)] for text, names in zip(texts, labels, strict=True))
    return path


@pytest.fixture
def small_blocks(monkeypatch):
    """A few texts and tokens at a time, so that borders of blocks are met."""
    monkeypatch.setattr(sk_ulmfit.text.encoding, "_CHARACTERS_AT_ONCE", 500)
    monkeypatch.setattr(sk_ulmfit.text.encoding, "TOKENS_AT_ONCE", 37)


@pytest.mark.parametrize("backward", [False, True])
def test_streamed_texts_become_the_same_ids_as_a_list(small_blocks, backward):
    texts = ["", *TEXTS, "A last one, rare: xylophone"]

    def choose(words, counts):
        return Vocabulary.from_counts(words, counts, max_size=40, min_frequency=2, known=["xylophone"])

    at_once, vocabulary = tokenize_texts(texts, "en", None, choose, backward=backward)
    one_by_one, same_vocabulary = tokenize_texts(streamed(texts), "en", None, choose, backward=backward)
    assert same_vocabulary == vocabulary
    encoded = encode_texts(streamed(texts), vocabulary, "en", backward=backward)
    for found in (one_by_one, encoded):
        np.testing.assert_array_equal(found.ids, at_once.ids)
        np.testing.assert_array_equal(found.offsets, at_once.offsets)


@pytest.mark.parametrize("form", ["plain", "backward language model", "unlabelled texts and weights", "early stopping"])
def test_a_classifier_learns_the_same_from_a_stream_as_from_a_list(tmp_path, small_blocks, form):
    options, arguments, streamed_arguments = {"tfidf": True}, {}, {}
    if form == "backward language model":
        lm = tiny_lm(random_state=0).fit(TEXTS)
        lm.state_.config["direction"] = "backward"
        lm.save(tmp_path / "lm")
        options["language_model"] = tmp_path / "lm"
        options["lm_epochs"] = 1
    if form == "unlabelled texts and weights":
        more = ["The hub is off once more", "My lamp is on"]
        weight = np.arange(60) % 3.0
        arguments = {"unlabelled_texts": more, "sample_weight": weight}
        streamed_arguments = {"unlabelled_texts": streamed(more), "sample_weight": weight}
    if form == "early stopping":
        options |= {"early_stopping": True, "threshold": "tune"}
    table = load_table(write_csv(tmp_path / "mail.csv"), text="body", label_column="topics", stream=True)
    assert isinstance(table.texts, StreamedTexts)
    assert not table.rows
    one = tiny_classifier(**options).fit(TEXTS, LABELS, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        two = tiny_classifier(**options).fit(table.texts, table.named_indicator(), **streamed_arguments)
    assert two.label_names_.tolist() == one.label_names_.tolist()
    assert np.array_equal(two.predict_proba(table.texts), one.predict_proba(TEXTS))
    assert np.array_equal(two.thresholds_, one.thresholds_)


def test_a_stream_is_remembered_by_its_content(tmp_path):
    clf = tiny_classifier(memory=tmp_path / "memory")
    first = clf.fit(streamed(TEXTS), LABELS).predict_proba(TEXTS)
    trained = []

    class Watched(StreamedTexts):
        def __iter__(self):
            trained.append(1)
            return super().__iter__()

    again = clf.fit(Watched(lambda: iter(TEXTS), len(TEXTS)), LABELS).predict_proba(TEXTS)
    assert np.array_equal(first, again)
    assert len(trained) == 2, "the texts are gone through for the two keys and for nothing else"
    other = clf.fit(streamed([*TEXTS[:-1], "something else"]), LABELS).predict_proba(TEXTS)
    assert not np.array_equal(first, other)


def test_a_source_that_changes_between_passes_is_noticed():
    lengths = iter([3, 2, 5])
    texts = StreamedTexts(lambda: ["a"] * next(lengths), 3)
    assert len(list(texts)) == 3
    with pytest.raises(ValueError, match=r"There were 3 texts, and now there are 2\. Their source has changed"):
        list(texts)
    with pytest.raises(ValueError, match="more than 3"):
        list(texts)


def test_streams_in_batches_chosen_and_chained():
    texts = streamed(["a", "b", "c"])
    assert list(texts.batches(2)) == [["a", "b"], ["c"]]
    chosen = texts.chosen(np.array([True, False, True]))
    assert (list(chosen), len(chosen)) == (["a", "c"], 2)
    both = chained(["z"], texts)
    assert (list(both), list(both), len(both)) == (["z", "a", "b", "c"], ["z", "a", "b", "c"], 4)
    assert chained(["z"], ["y"]) == ["z", "y"]


def test_texts_are_counted_while_they_are_read():
    done = []
    texts = streamed(TEXTS).with_progress(done.append)
    assert list(texts) == list(texts) == TEXTS
    assert sum(done) == 2 * len(TEXTS)


def test_an_empty_stream_is_refused_as_an_empty_list_is():
    with pytest.raises(ValueError, match="X has 0 texts"):
        tiny_lm().fit(streamed([]))


def test_token_ids_of_a_stream_do_not_stay_in_memory():
    n = 60_000
    texts = StreamedTexts(lambda: itertools.repeat("one two three four five six seven eight nine ten " * 10, n), n)
    vocabulary = Vocabulary(tokenize_corpus(["one two three four five six seven eight nine ten"])[1])
    encode_texts(["warm up"], vocabulary, "en")
    tracemalloc.start()
    corpus = encode_texts(texts, vocabulary, "en")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(corpus.ids) == 101 * n
    assert kept < 2_000_000, "offsets take half a megabyte, ids in memory would take 12"


def test_a_disk_without_room_is_said_in_one_line(monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sk_ulmfit.text.encoding.tempfile, "TemporaryFile", full)
    with pytest.raises(CorpusError, match=r"No space left on device\); set TMPDIR to a folder with room"):
        tiny_lm().fit(streamed(TEXTS))


def test_of_a_very_large_corpus_a_part_teaches_the_linear_model(monkeypatch):
    whole = tiny_classifier(tfidf=True).fit(TEXTS, LABELS)
    n_tokens = sum(map(len, whole.language_model_.state_.encode(TEXTS)))
    monkeypatch.setattr(sk_ulmfit.training.linear_training, "MAX_TOKENS", n_tokens)
    same = tiny_classifier(tfidf=True).fit(TEXTS, LABELS)
    assert np.array_equal(same.predict_proba(TEXTS), whole.predict_proba(TEXTS))
    monkeypatch.setattr(sk_ulmfit.training.linear_training, "MAX_TOKENS", n_tokens // 2)
    part = tiny_classifier(tfidf=True).fit(TEXTS, LABELS)
    assert not np.array_equal(part.predict_proba(TEXTS), whole.predict_proba(TEXTS))
    assert ((part.predict_proba(TEXTS) > 0.5) == (whole.predict_proba(TEXTS) > 0.5)).mean() > 0.8


def test_labels_of_a_streamed_table_are_those_of_one_in_memory(tmp_path):
    path = tmp_path / "mail.csv.gz"
    with gzip.open(path, "wt", encoding="utf-8") as file:
        file.write("body,late,lost\nWhere is it?,1,\nHello,0,0\nOh,,1\n")
    for blank in ("absent", "unknown"):
        plain, stream = (
            load_table(path, text="body", labels=["late", "lost"], blank=blank, stream=s) for s in (False, True)
        )
        np.testing.assert_array_equal(plain.indicator(), stream.indicator())
        assert list(stream.texts) == plain.texts
        assert stream.columns == plain.columns
