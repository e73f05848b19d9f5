"""GPT-2's tokenizer: text is cut into words, words into bytes, and neighbours are merged in the order of a list.

Source: Radford et al., "Language Models are Unsupervised Multitask Learners" (2019), section 2.2, and the behaviour of
the published tokenizer, against which tests/runners/test_gpt2.py holds.
"""

import itertools
import json
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

END: Final = "<|endoftext|>"
_ENDINGS: Final = ("s", "t", "re", "ve", "m", "ll", "d")
"""Of English words, after an apostrophe: words of their own."""


def byte_names() -> dict[int, str]:
    """A printable character for each byte, as the vocabulary file spells them: itself, or one from 256 upwards."""
    printable = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return {byte: chr(byte if byte in printable else next(others)) for byte in range(256)}


class BytePairs:
    """vocabulary: text of vocab.json, ids by spelling. merges: lines of merges.txt, the first to be merged first."""

    def __init__(self, vocabulary: str, merges: Iterable[str]) -> None:
        self._ids: dict[str, int] = json.loads(vocabulary)
        self._spelling = {number: spelling for spelling, number in self._ids.items()}
        lines = (line.split() for line in merges if not line.startswith("#version"))
        pairs = (words for words in lines if len(words) == 2)
        self._rank = {(left, right): rank for rank, (left, right) in enumerate(pairs)}
        self._names = byte_names()
        self._bytes = {name: byte for byte, name in self._names.items()}
        self._known: dict[str, list[int]] = {}
        self.longest = max(map(len, self._ids), default=0)
        """Bytes of the longest token: a text of more than n times so many has more than n tokens."""

    @property
    def end(self) -> int | None:
        """The id that ends a text, where the vocabulary has it."""
        return self._ids.get(END)

    def encode(self, text: str) -> list[int]:
        """Ids. What looks like the end mark in a text is text. Raises KeyError where the vocabulary lacks a byte."""
        found: list[int] = []
        for word in split_words(text):
            if word not in self._known:
                self._known[word] = self._merged(word)
            found += self._known[word]
        return found

    def decode(self, ids: Sequence[int]) -> str:
        """Text; bytes that make no character become U+FFFD."""
        spelled = "".join(self._spelling[number] for number in ids if number != self.end)
        return bytes(self._bytes[name] for name in spelled).decode(errors="replace")

    def _merged(self, word: str) -> list[int]:
        parts = [self._names[byte] for byte in word.encode(errors="replace")]
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            first = min(pairs, key=lambda pair: self._rank.get(pair, len(self._rank)))
            if first not in self._rank:
                break
            merged: list[str] = []
            place = 0
            while place < len(parts):
                if tuple(parts[place : place + 2]) == first:
                    merged.append(parts[place] + parts[place + 1])
                    place += 2
                else:
                    merged.append(parts[place])
                    place += 1
            parts = merged
        return [self._ids[part] for part in parts]


def split_words(text: str) -> Iterator[str]:
    """English endings; a space at most before letters, digits or signs; spaces, whose last goes to the next word."""
    at = 0
    while at < len(text):
        end = _word_end(text, at)
        yield text[at:end]
        at = end


def _word_end(text: str, at: int) -> int:
    if text[at] == "'":
        for ending in _ENDINGS:
            if text.startswith(ending, at + 1):
                return at + 1 + len(ending)
    start = at + 1 if text[at] == " " and at + 1 < len(text) and _kind(text[at + 1]) != "space" else at
    kind = _kind(text[start])
    end = start + 1
    while end < len(text) and _kind(text[end]) == kind:
        end += 1
    if kind == "space" and end < len(text) and end - at > 1:
        return end - 1
    return end


def _kind(char: str) -> str:
    if char.isspace() and not "\x1c" <= char <= "\x1f":
        return "space"
    return {"L": "letter", "N": "number"}.get(unicodedata.category(char)[0], "sign")
