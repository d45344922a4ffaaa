"""Texts of which a model knows hardly a word are not read in silence."""

import warnings

import numpy as np
import pytest
from conftest import tiny_classifier, tiny_lm

from sk_ulmfit import ULMFiTRegressor
from sk_ulmfit.pretraining import pretrain
from sk_ulmfit.text import join_fields
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.unknown_words import as_one_call

ENGLISH = ["the lamp is late", "the lamp is broken", "late and broken"] * 8
Y = [["late"], ["broken"], ["broken", "late"]] * 8
CHINESE = [
    "今天天气很好，我们去公园玩。",
    "订单还没有到，请退款。",
    "灯坏了，请帮忙。",
    "我要取消订单。",
    "谢谢你的帮助。",
]
JAPANESE = ["今日は天気がいいです。", "注文が届きません。", "ランプが壊れました。", "返金してください。"]
THAI = ["วันนี้อากาศดี", "สินค้ายังไม่มาถึง", "หลอดไฟเสีย", "กรุณาคืนเงิน"]
GERMAN = [
    "Die Lampe flackert seit gestern",
    "Meine Bestellung kam nicht an",
    "Bitte erstattet mir das Geld",
    "Wo bleibt meine Sendung",
]
NOISE = ["qzxvjk wrtplm", "bvcxnm lkjhgf", "zzqqxx mnbvcx"]


def warned(work, part="More than half"):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        work()
    return [str(warning.message) for warning in caught if part in str(warning.message)]


@pytest.fixture(scope="module")
def clf():
    return tiny_classifier().fit(ENGLISH, Y)


@pytest.mark.parametrize("texts", [CHINESE, JAPANESE, THAI, GERMAN, NOISE])
@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_labels", "explain"])
def test_prediction_warns_once(clf, texts, method):
    messages = warned(lambda: getattr(clf, method)(texts))
    assert len(messages) == 1
    assert "language=" in messages[0]


@pytest.mark.parametrize(
    "texts",
    [
        ENGLISH[:3],
        ["订单还没有到，请退款。"],  # one text may be anything
        ["qzxvjk", "wrtplm"],
        ["", "", "", ""],
        ["1,000 2011 !!!", "12 345", "99 %", "😀 😀 :-)"],
        ["the lamp 1 2 3 4 5", "late 6 7 8 9", "broken 10 11", "XXMAJ"],
        ["The LAMP is late?", "lamp qzxvjk", "Soooo late", "late"],
    ],
)
def test_prediction_does_not_warn(clf, texts):
    assert not warned(lambda: clf.predict(texts))


def test_streamed_texts_are_counted_too(clf):
    assert len(warned(lambda: clf.predict(StreamedTexts(lambda: iter(CHINESE), len(CHINESE))))) == 1


@pytest.mark.parametrize("direction", ["forward", "both"])
def test_training_warns_once(direction):
    texts = CHINESE * 2
    messages = warned(
        lambda: tiny_classifier(language_model="en-small", direction=direction, max_epochs=1, lm_epochs=0).fit(
            texts, [["a"], ["b"]] * 5
        )
    )
    assert len(messages) == 1
    assert "language=" in messages[0]


def test_words_that_only_the_texts_know_are_unknown_to_the_model_to_start_from():
    assert (
        len(
            warned(
                lambda: tiny_lm(pretrained="en-small", emb_dim=None, hidden_dim=None, n_layers=None, max_epochs=0).fit(
                    GERMAN * 5
                )
            )
        )
        == 1
    )
    assert not warned(lambda: tiny_lm(pretrained=None, max_epochs=0).fit(GERMAN * 5))


def test_a_fitted_language_model_is_checked_too(clf):
    lm = tiny_lm(pretrained=None).fit(ENGLISH)
    assert len(warned(lambda: tiny_classifier(language_model=lm).fit(GERMAN * 2, [["a"], ["b"]] * 4))) == 1
    assert len(warned(lambda: lm.perplexity(GERMAN))) == 1
    assert not warned(lambda: tiny_classifier(language_model=lm).fit(ENGLISH, Y))


def test_pretraining_warns(tmp_path):
    (tmp_path / "corpus.txt").write_text("\n\n".join(f"第{i}个文本没有空格" for i in range(50)), encoding="utf-8")
    settings = {"emb_dim": 8, "hidden_dim": 8, "n_layers": 1, "batch_size": 2, "bptt": 5, "epochs": 0.1}
    assert len(warned(lambda: pretrain(tmp_path / "corpus.txt", tmp_path / "run", **settings))) == 1


def test_probabilities_are_those_without_a_warning(clf):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        together = clf.predict_proba(CHINESE)
    assert np.array_equal(together[0], clf.predict_proba(CHINESE[:1])[0])


NO_WORD = "no word that the model knows"


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([""], "The text has no word that the model knows; it gets the base rate of each label."),
        (
            ["the lamp is late", " \n", "", "late"],
            "2 of 4 texts have no word that the model knows, such as the empty text in row 2; they get the base rate of "
            "each label.",
        ),
        (
            ["late", "qzxvjk"],
            "1 of 2 texts has no word that the model knows, 'qzxvjk' in row 2; it gets the base rate of each label.",
        ),
        (
            [join_fields(["", ""]), "late"],
            "1 of 2 texts has no word that the model knows, the empty text in row 1; it gets the base rate of each "
            "label.",
        ),
    ],
)
@pytest.mark.parametrize("method", ["predict", "predict_proba", "predict_labels"])
def test_texts_without_a_known_word_are_counted_in_one_warning(clf, texts, message, method):
    assert warned(lambda: getattr(clf, method)(texts), NO_WORD) == [message]


def test_texts_that_all_have_known_words_give_no_warning(clf):
    assert not warned(lambda: clf.predict(ENGLISH), NO_WORD)


def test_streamed_texts_without_words_are_counted_too(clf):
    texts = ["late", "", "lamp"]
    messages = warned(lambda: clf.predict(StreamedTexts(lambda: iter(texts), 3)), NO_WORD)
    assert len(messages) == 1
    assert "the empty text in row 2" in messages[0]


def test_blocks_of_one_call_give_one_warning_with_rows_counted_through(clf):
    def predict():
        with as_one_call():
            for block in (["late", "lamp"], ["late", ""], ["", "lamp"]):
                clf.predict(block)

    messages = warned(predict, NO_WORD)
    assert len(messages) == 1
    assert messages[0].startswith("2 of 6 texts have")
    assert "the empty text in row 4" in messages[0]


def test_a_regressor_says_that_it_predicts_the_means():
    model = ULMFiTRegressor(tiny_lm(), max_epochs=1, batch_size=8, bptt=10).fit(ENGLISH, np.arange(24.0))
    messages = warned(lambda: model.predict(["late", ""]), NO_WORD)
    assert len(messages) == 1
    assert messages[0].endswith("it gets the mean of each target.")


def test_fit_warns_of_empty_texts():
    texts = ["", *ENGLISH[1:]]
    assert warned(lambda: tiny_classifier().fit(texts, Y), "empty") == [
        "1 of 24 training texts is empty, the one in row 1; leave out such rows."
    ]
    assert not warned(lambda: tiny_classifier().fit(ENGLISH, Y), "empty")
