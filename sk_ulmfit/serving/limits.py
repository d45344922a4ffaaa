"""How much a server accepts from its clients."""

from __future__ import annotations

from dataclasses import dataclass

from sk_ulmfit._validation import check_number


@dataclass(frozen=True)
class Limits:
    """How much a server accepts; what is beyond a limit gets an answer that says so.

    Parameters
    ----------
    texts : int, default=256
        Texts of a request.
    characters : int, default=100_000
        Characters of a text.
    explained_characters : int, default=3_000
        Characters of a text to explain, which takes many times as long as a prediction.
    explained_labels : int, default=10
        Labels of a text to explain at a time.
    body_bytes : int, default=4_000_000
        Bytes of the body of a request. The bodies of all requests at a time may have 16 times as many.
    waiting_texts : int, default=1_000
        Texts that may wait for their prediction; a request beyond gets status 503.
    waiting_explanations : int, default=16
        Texts that may wait for their explanation.
    seconds : float, default=30
        Time for a request from its last byte to its answer; one that takes longer gets status 504.
    upload_seconds : float, default=10
        Time for the head of a request, and again for its body.
    connections : int, default=500
        Open connections.

    Raises
    ------
    ValueError
        If a limit is not a number above 0.

    Examples
    --------
    >>> from sk_ulmfit.serving import Limits
    >>> Limits(texts=32).texts
    32
    """

    texts: int = 256
    characters: int = 100_000
    explained_characters: int = 3_000
    explained_labels: int = 10
    body_bytes: int = 4_000_000
    waiting_texts: int = 1_000
    waiting_explanations: int = 16
    seconds: float = 30.0
    upload_seconds: float = 10.0
    connections: int = 500

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            is_time = name.endswith("seconds")
            check_number(name, value, low=0 if is_time else 1, integer=not is_time, exclusive=is_time)

    @property
    def all_bodies_bytes(self) -> int:
        """Bytes of the bodies of all requests at a time."""
        return 16 * self.body_bytes
