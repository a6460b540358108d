"""What a word is: a piece of a document's text, found from the text alone, whatever the tokenizer does.

White space ends a word and is never part of one. Between white space, words end where Unicode says (UAX #29, default
word boundaries): `never`, `don't`, `3.5` and `,` are words, `well-known` is three. Chinese, Japanese, Thai, Lao, Khmer
and Burmese are written without spaces: ICU's dictionaries cut them (the extra `calig[segment]`); without it each of
their characters, with its marks, is a word.

A token belongs to the words that its characters lie in (`alignment`). Words are no part of an attribution's key: they
are found again from the stored offsets whenever a run's tables are made.
"""

from calig.words.alignment import WordTokens, align
from calig.words.boundaries import rule, segmenter, word_spans

__all__ = ["WordTokens", "align", "rule", "segmenter", "word_spans"]
