"""Raw texts to token ids: the tokenizer, the vocabulary, corpora in files and in memory."""

from sk_ulmfit.text.streams import StreamedTexts
from sk_ulmfit.text.tokenizer import FIELD_SEPARATOR, join_fields, tokenize
from sk_ulmfit.text.vocabulary import TokenIds, Vocabulary

__all__ = ["FIELD_SEPARATOR", "StreamedTexts", "TokenIds", "Vocabulary", "join_fields", "tokenize"]
