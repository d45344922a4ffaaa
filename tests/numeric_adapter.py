"""Adapters for scikit-learn's common tests, which generate numbers: estimators on text that read each row as words."""

import numpy as np
from conftest import tiny_lm
from sklearn.utils.validation import check_is_fitted, validate_data

MINI_BATCHES = "fits in mini-batches and with dropout, so that repeated rows are the same in expectation only"


def words(X):
    """Write each row of numbers as a text, one word per column."""
    return [" ".join(f"f{j}q{int(np.floor(v * 2))}" for j, v in enumerate(row)) for row in X]


class ReadsNumbers:
    """Takes rows of numbers and reads each as a text."""

    def texts_of(self, X):
        check_is_fitted(self)
        return words(validate_data(self, X, reset=False))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string, tags.input_tags.one_d_array, tags.input_tags.two_d_array = False, False, True
        return tags


class LearnsFromNumbers(ReadsNumbers):
    """An estimator with targets that is trained on such texts, with two parameters in its constructor."""

    def __init__(self, max_epochs=2, random_state=None):
        super().__init__(max_epochs=max_epochs, random_state=random_state)

    def fit(self, X, y, sample_weight=None):
        X = validate_data(self, X)
        self.language_model = tiny_lm(max_epochs=0)
        self.batch_size, self.bptt = 8, 16
        try:
            return super().fit(words(X), y, sample_weight)
        finally:
            del self.language_model, self.batch_size, self.bptt


def set_defaults(adapter, estimator):
    """Give an adapter class the defaults of the parameters that its constructor leaves out."""
    for name, value in estimator.get_params(deep=False).items():
        if name not in ("max_epochs", "random_state"):
            setattr(adapter, name, value)
