"""The language model of a fit that goes on: new words of the texts are added, and nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sk_ulmfit.models.room import Room
from sk_ulmfit.models.state import ModelState, reads_backward
from sk_ulmfit.models.vocabulary import grow_vocabulary
from sk_ulmfit.text.encoding import tokenize_texts
from sk_ulmfit.text.seen_tokens import TokenStore
from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.unknown_words import WordCount, warn_of_training_texts
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary
from sk_ulmfit.training.progress import COUNTING, show_stage
from sk_ulmfit.training.settings import LanguageModelSettings


def grow_language_model(
    texts: Sequence[str] | StreamedTexts,
    start: ModelState,
    settings: LanguageModelSettings,
    store: TokenStore,
    room: Room,
) -> tuple[ModelState, TokenIds, Room]:
    """Return a language model with the new words of some texts, and the token ids of these in its reading direction.

    Words keep their ids, and new ones come after them, unless the vocabulary is full. The tokens of texts are kept in
    `store`, but not those of streamed texts. The embedding lies in `room`, or in another one, which is returned.
    """
    backward, language = reads_backward(start.config), settings.language
    word_count = WordCount()

    def choose(words: Sequence[str], counts: NDArray[np.int64]) -> Vocabulary:
        word_count.add(len(texts), words, counts, start.vocabulary)
        return start.vocabulary.grown(words, counts, max_size=settings.vocab_size, min_frequency=settings.min_frequency)

    with show_stage(COUNTING, len(texts), "texts", settings, backward) as advance:
        if isinstance(texts, StreamedTexts):
            corpus, vocabulary = tokenize_texts(
                texts, language, settings.n_jobs, choose, backward=backward, advance=advance
            )
        else:
            corpus, words = store.tokenize(texts, language, settings.n_jobs, advance)
            vocabulary = choose(words, np.bincount(corpus.ids, minlength=len(words)))
            corpus = corpus.map_ids(vocabulary.lookup(words))
            corpus = corpus.reversed() if backward else corpus
    warn_of_training_texts(word_count, language)
    weights, room = grow_vocabulary(start.weights, start.vocabulary, vocabulary, room)
    return ModelState("language_model", dict(start.config), vocabulary, weights), corpus, room
