"""From raw text to token ids: the tokenizer, the vocabulary, and texts that need not fit into memory."""

from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.tokenizer import FIELD_SEPARATOR, join_fields, tokenize
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary

__all__ = ["FIELD_SEPARATOR", "StreamedTexts", "TokenIds", "Vocabulary", "join_fields", "tokenize"]
