"""Which words tokens belong to, from characters alone.

A token gives each word that it covers its share by characters; white space counts for none. A token of a single space,
or of no character at all, such as SentencePiece's `▁`, belongs to the word that starts where it ends; without one, a
token of no character belongs to the word that ends there. All other tokens of white space belong to no word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from calig.records import Bool, Int
from calig.words.boundaries import word_spans

_SPACE = ord(" ")


@dataclass(frozen=True, slots=True, eq=False)
class WordTokens:
    """P pairs of a token and a word that it belongs to, by token, then by word.

    Attributes
    ----------
    token
        (P,) which of the given tokens.
    word
        (P,) the word's number in its document, from 0, in the order of the text; a word without a token has none.
    text
        (P,) which of the given texts the word stands in.
    start, end
        (P,) where the word stands in its text, in characters; of a text that was cut, what the model read of it.
    characters, token_characters
        (P,) the token's characters in this word, and in all words: it gives the word the share of the one in the other.
        Both are 1 where it belongs to one word alone.
    main
        (P,) true for the word that holds most of the token, the first of equals: once for each token in a word.
    """

    token: Int
    word: Int
    text: Int
    start: Int
    end: Int
    characters: Int
    token_characters: Int
    main: Bool

    @property
    def share(self) -> npt.NDArray[np.float64]:
        """(P,) the token's share in the word."""
        return self.characters / self.token_characters


def align(
    texts: Sequence[str],
    documents: npt.NDArray[np.integer],
    text_of: npt.NDArray[np.integer],
    spans: npt.NDArray[np.integer],
    cut: npt.NDArray[np.bool_],
) -> WordTokens:
    """Find the words that tokens belong to.

    Parameters
    ----------
    texts
        N texts.
    documents
        (N,) the document each text belongs to, ascending: words are numbered within a document.
    text_of
        (T,) which text each token comes from, −1 for special tokens, which belong to no word.
    spans
        (T, 2) start and end of each token in its text, in characters.
    cut
        (N,) whether the model read only part of the document that the text belongs to.
    """
    lengths = np.array([len(text) for text in texts], np.int64)
    base = np.cumsum(lengths + 1) - lengths - 1  # all texts in one row, with a line break after each
    codes = np.frombuffer("".join(f"{text}\n" for text in texts).encode("utf-32-le", "surrogatepass"), "<u4")

    token = np.flatnonzero(text_of >= 0)
    place = text_of[token]
    start, end = (base[place] + np.clip(spans[token, side], 0, lengths[place]) for side in (0, 1))
    end = np.maximum(start, end)
    starts, ends = _words(texts, base, cut, (place, start, end))
    first = np.searchsorted(ends, start, "right")
    count = np.searchsorted(starts, end, "left") - first
    _adjoin(first, count, start, end, (starts, ends), codes)

    within = np.repeat(np.arange(len(token)), count)
    word = first[within] + np.arange(len(within)) - np.repeat(np.cumsum(count) - count, count)
    characters = np.minimum(end[within], ends[word]) - np.maximum(start[within], starts[word])
    characters[count[within] == 1] = 1
    total = np.bincount(within, characters, len(token)).astype(np.int64)[within]
    order = np.lexsort((word, -characters, within))
    main = np.zeros(len(within), np.bool_)
    main[order[np.flatnonzero(np.diff(within[order], prepend=-1))]] = True

    text = place[within]
    kept, number = np.unique(word, return_inverse=True)
    owner = documents[text]
    lowest = np.full(int(documents.max(initial=-1)) + 1, len(kept))
    np.minimum.at(lowest, owner, number)
    return WordTokens(
        token=token[within].astype(np.int32),
        word=(number - lowest[owner]).astype(np.int32),
        text=text.astype(np.int32),
        start=(starts[word] - base[text]).astype(np.int32),
        end=(ends[word] - base[text]).astype(np.int32),
        characters=characters.astype(np.int32),
        token_characters=total.astype(np.int32),
        main=main,
    )


def _words(
    texts: Sequence[str],
    base: npt.NDArray[np.int64],
    cut: npt.NDArray[np.bool_],
    tokens: tuple[npt.NDArray[np.integer], npt.NDArray[np.int64], npt.NDArray[np.int64]],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Starts and ends of all words in the row of texts; of a text that was cut as far as tokens reach."""
    place, start, end = tokens
    spans = [list(word_spans(text)) for text in texts]
    text = np.repeat(np.arange(len(texts)), [len(found) for found in spans])
    starts, ends = np.array([one for found in spans for one in found], np.int64).reshape(-1, 2).T + base[text]
    if cut.any():
        first, last = np.full(len(texts), np.iinfo(np.int64).max), np.zeros(len(texts), np.int64)
        np.minimum.at(first, place, start)
        np.maximum.at(last, place, end)
        starts = np.where(cut[text], np.maximum(starts, first[text]), starts)
        ends = np.where(cut[text], np.minimum(ends, last[text]), ends)
    kept = starts < ends
    return starts[kept], ends[kept]


def _adjoin(
    first: npt.NDArray[np.int64],
    count: npt.NDArray[np.int64],
    start: npt.NDArray[np.int64],
    end: npt.NDArray[np.int64],
    words: tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]],
    codes: npt.NDArray[np.uint32],
) -> None:
    """Give tokens of a single space or no character, which are in no word yet, a word beside them, in place."""
    starts, ends = words
    lone = np.flatnonzero(count == 0)
    own, begin, stop = first[lone], start[lone], end[lone]
    empty = begin == stop
    space = (stop - begin == 1) & (codes[begin] == _SPACE)
    follows = (np.append(starts, -1)[own] == stop) & (empty | space)
    precedes = (np.append(-1, ends)[own] == begin) & empty & ~follows
    first[lone] = own - precedes
    count[lone] = follows | precedes
