"""A linear model of the words of a text and of their letters, which decides beside the network.

A label with few texts hangs on a rare word or two. TF-IDF weighs rare words up, and a linear SVM finds them from one
example; the pooled features of a network need many. So each label is decided by both, by the network the more the more
texts have the label. Character n-grams, within words, tell it about words that it has seen rarely or never: the
vocabulary holds more words than the texts do, and related words share letters.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray
from scipy import sparse
from scipy.special import logit
from sklearn.exceptions import ConvergenceWarning
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import KFold
from sklearn.svm import LinearSVC

from sk_ulmfit.models.state import Weights
from sk_ulmfit.text.vocabulary import BOS, PAD, SPECIAL_TOKENS, UNK, TokenIds, Vocabulary

PREFIX = "tfidf."  # of the names of its arrays among those of a classifier
NGRAM_ARRAYS = (PREFIX + "ngram_offsets", PREFIX + "ngrams", PREFIX + "ngram_counts")  # in each word of the vocabulary
ARRAYS = {*NGRAM_ARRAYS, *(PREFIX + name for name in ("words", "idf", "weight", "bias", "network_share"))}
NOT_WORDS = (UNK, PAD, BOS)
NGRAMS = (3, 4)  # letters, the space at either end of a word among them
RAREST_NGRAM = 3  # documents that have it
MOST_NGRAM_WEIGHTS = 50_000_000  # n-grams times labels; of more n-grams the most frequent ones are taken
TOLERANCE = 0.1  # of the solver: finer ones take longer and rank no better
STRENGTHS = (1.0, 0.3, 0.1, 0.03)  # C of the SVM, of which the first that is best on held-out documents is taken
SMOOTHING = 0.5  # documents that have a term, and that lack it, added to those with a label and to those without
N_FOLDS = 3  # on the first of which the strength is chosen
MOST_FOLDED = 20_000  # of more documents one fold is held out instead of each in turn, and no more of it than this
ENOUGH = 20  # held-out documents with a label, and without, for a scale of its own
UNMEASURED = (4.0, 0.0)  # slope and offset where no held-out document has a label that could be learned
SMALLEST_SPREAD = 0.01  # of margins, which are about 1 apart where words tell anything
HALF_WAY = 30  # with so many documents of a label, the network has half of the share that it has with very many
TOKENS_AT_ONCE = 1_000_000
MOST_TOKENS = 5_000_000  # of a larger corpus a random part is learned from; the counts of so many take 1 to 3 gigabytes
MOST_CELLS = 1_000_000  # of margins, from which a scale is learned
WORTH_WORKERS = 50_000_000  # counts times labels from which more than one process pays


def fit_tfidf(
    corpus: TokenIds,
    vocabulary: Vocabulary,
    indicator: NDArray[np.floating[Any]],
    seed: int = 0,
    n_jobs: int | None = None,
    *,
    document_weight: NDArray[np.float32] | None = None,
    pos_weight: NDArray[np.float64] | None = None,
) -> Weights:
    """Train one linear SVM per label on TF-IDF, scaled so that its outputs are log-odds.

    Words and the character n-grams within them are counted, those of three documents or more. A count n becomes
    (1 + log n) times the inverse document frequency; the words of a document are of length one together, and so are its
    n-grams. Before an SVM sees them each is multiplied by what it says of the label by itself, the cube root of |r|, r
    being the logarithm of how much more often documents with the label have the term than those without it, and all by
    one number that makes their mean squared length one (after Wang & Manning 2012, sections 2.1 and 2.3, who take r
    itself, of the shares of all counts). The strength of all SVMs is that of the largest mean average precision on
    held-out documents. What a margin says of the odds is learned from these as well (Platt 1999, section 2), for labels
    with few of them together.

    Parameters
    ----------
    corpus : TokenIds
        n documents.
    vocabulary : Vocabulary
        What the ids mean: the unknown word, padding and the begin of a text are not looked at.
    indicator : ndarray, shape (n, L)
        0 and 1, NaN where unknown.
    seed : int, default=0
        Seed of the folds and of the solver.
    n_jobs : int or None, default=None
        Worker processes, as in joblib, where there is enough to do for them.
    document_weight : ndarray of shape (n,), default=None
        How much each document counts, 1 on average.
    pos_weight : ndarray of shape (L,), default=None
        Factor on the odds of each label, as a network has it that was trained with this weight of the entries 1.

    Returns
    -------
    dict of str to ndarray
        What `tfidf_logits` and `blend` take; empty if words say nothing about any label of held-out documents.

    Notes
    -----
    Seven SVMs are trained per label, four strengths on the first of three folds, the best on the others and on all;
    five for more than 20,000 documents. The factors on the terms are part of the weights that are kept.

    References
    ----------
    J. Platt (1999), "Probabilistic Outputs for Support Vector Machines", section 2.
    S. Wang, C. Manning (2012), "Baselines and Bigrams: Simple, Good Sentiment and Topic Classification".
    W. Cavnar, J. Trenkle (1994), "N-Gram-Based Text Categorization", section 3.
    G. Mesnil et al. (2015), "Ensemble of Generative and Discriminative Techniques for Sentiment Analysis of Movie
    Reviews", sections 2 and 3: a recurrent network and a linear model of words err on different texts.
    """
    y, known = indicator == 1, ~np.isnan(indicator)
    words = np.setdiff1d(corpus.ids, [vocabulary.index(token) for token in NOT_WORDS]).astype(np.int32)
    if not len(words):
        return {}
    terms, counts = _terms(corpus, vocabulary, words, y.shape[1])
    n_jobs = n_jobs if counts.nnz * y.shape[1] >= WORTH_WORKERS else 1
    strength, slope, offset = _choose(counts, len(words), indicator, document_weight, seed, n_jobs)
    idf, weight, bias, learnable = _fit(counts, len(words), indicator, document_weight, strength, seed, n_jobs)
    n_with, n_known = y.sum(axis=0), known.sum(axis=0)
    known_by_words = learnable & (slope > 0)
    if not known_by_words.any():
        return {}
    rate = base_rates(indicator, document_weight)
    n_rarer = np.minimum(n_with, n_known - n_with)
    boost = np.zeros(len(rate)) if pos_weight is None else np.log(pos_weight)
    share = 0.5 * n_rarer / (n_rarer + HALF_WAY)
    arrays: Weights = {
        "words": words,
        "ngram_offsets": terms.ngrams.indptr.astype(np.int32),
        "ngrams": terms.ngrams.indices.astype(np.int32),
        "ngram_counts": terms.ngrams.data.astype(np.uint8),
        "idf": idf.astype(np.float32),
        "weight": (weight * slope).astype(np.float16),
        "bias": (np.where(known_by_words, bias * slope + offset, logit(rate)) + boost).astype(np.float32),
        "network_share": np.where(learnable & ~known_by_words, 1, share).astype(np.float32),
    }
    return {PREFIX + name: array for name, array in arrays.items()}


def enough_documents(lengths: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """Choose the documents to learn from: all, or of very many a random part of `MOST_TOKENS`.

    Parameters
    ----------
    lengths : ndarray of int64, shape (n,)
        Tokens of each document.
    seed : int
        Seed of the draw.

    Returns
    -------
    ndarray of int64
        Indices, rising.
    """
    if lengths.sum() <= MOST_TOKENS:
        return np.arange(len(lengths))
    order = np.random.default_rng(seed).permutation(len(lengths))
    n_chosen = max(1, int(np.searchsorted(np.cumsum(lengths[order]), MOST_TOKENS, side="right")))
    return np.sort(order[:n_chosen])


def base_rates(
    indicator: NDArray[np.floating[Any]], document_weight: NDArray[np.float32] | None = None
) -> NDArray[np.float64]:
    """Give the share of the documents that have each label, of those of which it is known.

    Parameters
    ----------
    indicator : ndarray, shape (n, L)
        0 and 1, NaN where unknown.
    document_weight : ndarray of shape (n,), default=None
        How much each document counts, 1 on average.

    Returns
    -------
    ndarray of float64, shape (L,)
        Between 0 and 1: half a document of either kind is added. That of a label of which nothing is known is the mean
        of the others.
    """
    weight = np.ones(len(indicator), np.float32) if document_weight is None else document_weight
    n_known = weight @ ~np.isnan(indicator)
    rate = (weight @ (indicator == 1) + 0.5) / (n_known + 1.0)
    return np.where(n_known > 0, rate, rate[n_known > 0].mean())


def split_tfidf(weights: Weights) -> tuple[Weights, Weights]:
    """Split the arrays of a classifier into those of its network and those of its linear model, which may be none."""
    tfidf = {name: array for name, array in weights.items() if name.startswith(PREFIX)}
    if tfidf and not tfidf.keys() & set(NGRAM_ARRAYS):  # the first files know no n-grams
        n_ids = len(weights["encoder.embedding.weight"])
        empty = np.zeros(n_ids + 1, np.int32), np.empty(0, np.int32), np.empty(0, np.uint8)
        tfidf |= dict(zip(NGRAM_ARRAYS, empty, strict=True))
    if tfidf and (wrong := tfidf.keys() ^ ARRAYS):
        raise KeyError(min(wrong))
    return {name: array for name, array in weights.items() if name not in tfidf}, tfidf


def tfidf_logits(tfidf: Weights, corpus: TokenIds) -> NDArray[np.float64]:
    """Give the log-odds of each label for each document.

    Parameters
    ----------
    tfidf : dict of str to ndarray
        What `fit_tfidf` gave, not empty.
    corpus : TokenIds
        n documents.

    Returns
    -------
    ndarray of float64, shape (n, L)
        Log-odds; those of a document do not depend on the others.
    """
    weight, bias, terms = tfidf[PREFIX + "weight"], tfidf[PREFIX + "bias"].astype(np.float64), Terms.of(tfidf)
    parts = [np.empty((0, len(bias)))]
    for counts in _counts(corpus, terms):
        columns = np.unique(counts.indices)  # a few of many rows of the weights
        features = _features(counts, len(terms.words), tfidf[PREFIX + "idf"])
        parts.append(features[:, columns] @ weight[columns].astype(np.float64))
    return np.concatenate(parts) + bias


def blend(network: NDArray[np.float64], tfidf: Weights, corpus: TokenIds) -> NDArray[np.float64]:
    """Average the log-odds of the network and of the linear model.

    On a label that c training documents have, or lack if these are fewer, the network's share is c / (2 c + 60): a
    half at most, little for few. It is 1 on a label about which words say nothing.

    Parameters
    ----------
    network : ndarray of float64, shape (n, L)
        Log-odds by the network.
    tfidf : dict of str to ndarray
        What `fit_tfidf` gave; if it is empty, the network decides alone.
    corpus : TokenIds
        The n documents.

    Returns
    -------
    ndarray of float64, shape (n, L)
        Log-odds.
    """
    if not tfidf:
        return network
    share = tfidf[PREFIX + "network_share"].astype(np.float64)
    return share * network + (1 - share) * tfidf_logits(tfidf, corpus)


def token_logits(tfidf: Weights, document: NDArray[np.int32], labels: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """Split the log-odds of a document among its tokens: a feature times its weight, over the times it occurs.

    Parameters
    ----------
    tfidf : dict of str to ndarray
        What `fit_tfidf` gave, not empty.
    document : ndarray of int32, shape (n_tokens,)
        Token ids.
    labels : ndarray of int, shape (K,)
        Which labels.

    Returns
    -------
    ndarray of float64, shape (n_tokens, K)
        Log-odds. Their sum and the biases of the labels are what `tfidf_logits` gives.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_ulmfit.text import TokenIds, Vocabulary
    >>> from sk_ulmfit.training.linear import fit_tfidf, token_logits
    >>> corpus = TokenIds(np.array([0, 1, 0, 2] * 20, np.int32), np.arange(0, 81, 2))
    >>> model = fit_tfidf(corpus, Vocabulary(["the", "lamp", "hub"]), np.array([[1], [0]] * 20))
    >>> (token_logits(model, corpus[0], np.array([0]))[:, 0] > 1).tolist()  # "lamp" tells
    [False, True]
    """
    terms = Terms.of(tfidf)
    (counts,) = _counts(TokenIds(document, np.array([0, len(document)])), terms)
    features, columns = _features(counts, len(terms.words), tfidf[PREFIX + "idf"]), counts.indices
    weight = tfidf[PREFIX + "weight"][np.ix_(columns, labels)].astype(np.float64)
    of_each = (features.data / counts.data)[:, None] * weight
    n_words = int((columns < len(terms.words)).sum())
    known = terms.words[columns[:n_words]]  # sorted, as the columns are
    present = np.isin(document, known)
    result = np.zeros((len(document), len(labels)))
    result[present] = of_each[:n_words][np.searchsorted(known, document[present])]
    if n_words < len(columns):
        result += terms.ngrams[document][:, columns[n_words:] - len(terms.words)] @ of_each[n_words:]
    return result


class Terms(NamedTuple):
    """What is counted in a document.

    Attributes
    ----------
    words : ndarray of int32, shape (n_words,)
        Ids of the words, rising.
    ngrams : csr_matrix of float32, shape (n_ids, n_ngrams)
        How often each n-gram is in the word of each id.
    """

    words: NDArray[np.int32]
    ngrams: sparse.csr_matrix

    @classmethod
    def of(cls, tfidf: Weights) -> Terms:
        """Take them from what `fit_tfidf` gave."""
        words, offsets, indices, counts = (tfidf[name] for name in (PREFIX + "words", *NGRAM_ARRAYS))
        shape = (len(offsets) - 1, len(tfidf[PREFIX + "idf"]) - len(words))
        return cls(words, sparse.csr_matrix((counts.astype(np.float32), indices, offsets), shape=shape))


def _terms(
    corpus: TokenIds, vocabulary: Vocabulary, words: NDArray[np.int32], n_labels: int
) -> tuple[Terms, sparse.csr_matrix]:
    """Choose the n-grams: of all words of the vocabulary those that enough documents have. Count them and the words."""
    names = ["" if word in SPECIAL_TOKENS else word for word in vocabulary.words]
    vectorizer = CountVectorizer(analyzer="char_wb", ngram_range=NGRAMS, lowercase=False, dtype=np.float32)
    try:
        ngrams = vectorizer.fit_transform(names)
        ngrams.data = ngrams.data.clip(max=255)  # as they are kept
    except ValueError:  # no word but markers
        ngrams = sparse.csr_matrix((len(names), 0), dtype=np.float32)
    counts = sparse.vstack(list(_counts(corpus, Terms(words, ngrams))), "csr")
    n_documents = np.bincount(counts.indices, minlength=counts.shape[1])[len(words) :]
    by_frequency = np.argsort(-n_documents, kind="stable")[: max(1, MOST_NGRAM_WEIGHTS // n_labels)]
    chosen = np.sort(by_frequency[n_documents[by_frequency] >= RAREST_NGRAM])
    ngrams = ngrams[:, chosen]
    ngrams.sort_indices()
    return Terms(words, ngrams), counts[:, np.append(np.arange(len(words)), len(words) + chosen)]


def _counts(corpus: TokenIds, terms: Terms) -> Iterator[sparse.csr_matrix]:
    """Count the words and n-grams of some documents after the others, shape (some, n_words + n_ngrams) each."""
    borders = np.searchsorted(corpus.offsets, np.arange(0, corpus.offsets[-1] + 1, TOKENS_AT_ONCE))
    borders = np.unique([0, *borders, len(corpus)])
    n_ids = terms.ngrams.shape[0]
    for first, end in pairwise(borders):
        offsets = corpus.offsets[first : end + 1]
        ids = corpus.ids[offsets[0] : offsets[-1]].copy()  # they are sorted where they stand
        of_id = sparse.csr_matrix(
            (np.ones(len(ids), np.float32), ids, offsets - offsets[0]), shape=(end - first, n_ids)
        )
        of_id.sum_duplicates()
        counts = sparse.hstack([of_id[:, terms.words], of_id @ terms.ngrams], "csr", dtype=np.float32)
        counts.sort_indices()
        yield counts


def _features(counts: sparse.csr_matrix, n_words: int, idf: NDArray[np.floating[Any]]) -> sparse.csr_matrix:
    """Give TF-IDF with logarithmic counts; words and n-grams of a row are of the same length, all together of one."""
    features = counts.astype(np.float64)
    features.data = (1 + np.log(features.data)) * idf[features.indices].astype(np.float64)
    kind = 2 * np.repeat(np.arange(len(counts.indptr) - 1), np.diff(counts.indptr)) + (features.indices >= n_words)
    squares = np.bincount(kind, features.data**2, minlength=2 * counts.shape[0])
    n_kinds = np.repeat((squares.reshape(-1, 2) > 0).sum(axis=1), 2)
    features.data /= np.sqrt(squares * n_kinds)[kind]
    return features


def _fit(
    counts: sparse.csr_matrix,
    n_words: int,
    y: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None,
    strength: float,
    seed: int,
    n_jobs: int | None,
) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Train on counts; give the idf, weights and biases, and which labels can be learned: some have it, some do not."""
    by_count = None if document_weight is None else np.repeat(document_weight, np.diff(counts.indptr))
    n_with_term = np.bincount(counts.indices, by_count, minlength=counts.shape[1])
    idf = np.log((1 + len(y)) / (1 + n_with_term)) + 1
    features = _features(counts, n_words, idf)
    learnable = np.asarray((y == 1).any(axis=0) & (y == 0).any(axis=0))
    weight, bias = np.zeros((counts.shape[1], y.shape[1]), np.float32), np.zeros(y.shape[1])
    labels = np.flatnonzero(learnable)
    workers = Parallel(n_jobs, return_as="generator")
    found = workers(delayed(_fit_label)(features, y[:, label], document_weight, strength, seed) for label in labels)
    for label, (label_weight, label_bias) in zip(labels, found, strict=True):
        weight[:, label], bias[label] = label_weight, label_bias
    return idf, weight, bias, learnable


def _fit_label(
    features: sparse.csr_matrix,
    y: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None,
    strength: float,
    seed: int,
) -> tuple[NDArray[np.float64], float]:
    """Train on the features times what each says of the label; give weights of the features as they are."""
    known = ~np.isnan(y)
    if not known.all():
        features, y = features[known], y[known]
        document_weight = None if document_weight is None else document_weight[known]
    evidence = _evidence(features, y == 1, document_weight)
    data = evidence[features.indices]
    data *= features.data
    weighed = sparse.csr_matrix((data, features.indices, features.indptr), shape=features.shape)
    # Margins would be of another size for each label otherwise, and one strength could not suit all.
    squares = np.asarray(weighed.power(2).sum(axis=1))[:, 0]
    unit = np.sqrt(max(np.average(squares, weights=document_weight), np.finfo(np.float64).tiny))
    data /= unit
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # far enough after 1,000 iterations
        svm = LinearSVC(C=strength, tol=TOLERANCE, random_state=seed).fit(weighed, y == 1, document_weight)
    return svm.coef_[0] * evidence / unit, float(svm.intercept_[0])


def _evidence(
    features: sparse.csr_matrix, has_label: NDArray[np.bool_], document_weight: NDArray[np.float32] | None
) -> NDArray[np.float64]:
    """Give how much each term says about a label: the cube root of the size of its log-ratio, with and without it."""
    weight = np.ones(len(has_label)) if document_weight is None else document_weight.astype(np.float64)
    columns, n_terms = features.indices, features.shape[1]
    log_rates = []
    for documents in (has_label, ~has_label):
        of_each = weight * documents
        n_with_term = np.bincount(columns, np.repeat(of_each, np.diff(features.indptr)), minlength=n_terms)
        log_rates.append(np.log((n_with_term + SMOOTHING) / (of_each.sum() + 2 * SMOOTHING)))
    return np.cbrt(np.abs(log_rates[0] - log_rates[1]))


def _choose(
    counts: sparse.csr_matrix,
    n_words: int,
    y: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None,
    seed: int,
    n_jobs: int | None,
) -> tuple[float, NDArray[np.float64], NDArray[np.float64]]:
    """Give the best strength on held-out documents, and slope and offset of its margins for each label."""
    folds = list(KFold(min(N_FOLDS, len(y)), shuffle=True, random_state=seed).split(y)) if len(y) > 1 else []
    if len(y) > MOST_FOLDED:
        folds = [(train, held_out[:MOST_FOLDED]) for train, held_out in folds[:1]]
    rows = np.concatenate([np.arange(0), *(held_out for _, held_out in folds)])

    def margins_of(some: list[Any], strength: float) -> NDArray[np.float64]:
        return _held_out_margins(counts, n_words, y, document_weight, some, strength, seed, n_jobs)

    first_rows = rows[: len(folds[0][1])] if folds else rows
    truth, weight = y[first_rows], None if document_weight is None else document_weight[first_rows]
    best = -1.0
    for candidate in STRENGTHS:
        found = margins_of(folds[:1], candidate)
        precision = _mean_average_precision(truth, found, weight)
        if precision > best:
            best, strength, margins = precision, candidate, found
    margins = np.concatenate([margins, margins_of(folds[1:], strength)])
    return strength, *_scales(margins, y[rows], None if document_weight is None else document_weight[rows])


def _held_out_margins(
    counts: sparse.csr_matrix,
    n_words: int,
    y: NDArray[np.floating[Any]],
    document_weight: NDArray[np.float32] | None,
    folds: list[Any],
    strength: float,
    seed: int,
    n_jobs: int | None,
) -> NDArray[np.float64]:
    """Give margins on the held-out documents of each fold, NaN for labels that its other documents do not teach."""
    margins = [np.empty((0, y.shape[1]))]
    for train, held_out in folds:
        of_train = None if document_weight is None else document_weight[train]
        idf, weight, bias, learnable = _fit(counts[train], n_words, y[train], of_train, strength, seed, n_jobs)
        features = _features(counts[held_out], n_words, idf)
        margins.append(np.where(learnable, features @ weight + bias, np.nan))
    return np.concatenate(margins)


def _mean_average_precision(
    truth: NDArray[np.floating[Any]], margins: NDArray[np.float64], weight: NDArray[np.float32] | None
) -> float:
    """Give the mean over the labels that every fold has learned."""
    ranked = np.flatnonzero((truth == 1).any(axis=0) & np.isfinite(margins).all(axis=0))
    found = []
    for label in ranked:
        known = ~np.isnan(truth[:, label])
        of_known = None if weight is None else weight[known]
        found.append(average_precision_score(truth[known, label], margins[known, label], sample_weight=of_known))
    return float(np.mean(found)) if found else 0.0


def _scales(
    margins: NDArray[np.float64], y: NDArray[np.floating[Any]], weight: NDArray[np.float32] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Give slope and offset from margins to log-odds for each label; a slope of 0 where margins say nothing.

    Labels with fewer than `ENOUGH` held-out documents, on the rarer side, share one scale. Those with none at all take
    it too, but have no part in finding it: documents without the label are all that they could show.
    """
    learned, truth = np.isfinite(margins) & ~np.isnan(y), y == 1
    weights = None if weight is None else np.broadcast_to(weight[:, None], y.shape)

    def platt(chosen: Any) -> tuple[float, float]:
        return _platt(margins[chosen], truth[chosen], None if weights is None else weights[chosen])

    n_seen = np.minimum((truth & learned).sum(axis=0), (~truth & learned).sum(axis=0))
    slope, offset = np.empty(len(n_seen)), np.empty(len(n_seen))
    few = (n_seen > 0) & (n_seen < ENOUGH)
    slope[:], offset[:] = platt(learned & few) if few.any() else UNMEASURED
    for label in np.flatnonzero(n_seen >= ENOUGH):
        slope[label], offset[label] = platt((learned[:, label], label))
    return slope, offset


def _platt(
    margins: NDArray[np.float64], truth: NDArray[np.bool_], weight: NDArray[np.float32] | None
) -> tuple[float, float]:
    """Give slope and offset from margin to log-odds; a larger margin never means worse odds."""
    every, unit = -(-len(margins) // MOST_CELLS), float(margins.std())
    if unit < SMALLEST_SPREAD:
        return 0.0, 0.0
    of_taken = None if weight is None else weight[::every]
    scale = LogisticRegression().fit(margins[::every, None] / unit, truth[::every], of_taken)
    return max(float(scale.coef_[0, 0]) / unit, 0.0), float(scale.intercept_[0])
