"""The tokenizer of uncased BERT models: text is cleaned, split at spaces and punctuation, and cut into known pieces.

Source: Devlin et al., arXiv:1810.04805, and the behaviour of the published tokenizer of the same vocabulary, against
which tests/runners/test_minilm.py holds. What looks like a special token in a text ("[SEP]") is text here: nobody's
text becomes a token that structures the input.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import Final

_LONGEST_WORD: Final = 100
"""Longer ones are unknown, as in the published tokenizer."""
_CJK: Final = (
    (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F), (0x2B740, 0x2B81F),
    (0x2B920, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
)  # fmt: skip
"""Blocks whose characters stand alone."""
_PIECE: Final = re.compile("[^ \t\n\r\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+")
"""Between what the model takes for spaces: all others that Unicode calls so are control characters, which go."""


class WordPiece:
    """vocabulary: its tokens, the place of each being its id."""

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._ids = {token: place for place, token in enumerate(vocabulary)}
        self._first, self._last, self._unknown = (self._ids[name] for name in ("[CLS]", "[SEP]", "[UNK]"))

    def encode(self, text: str, limit: int) -> tuple[list[int], bool]:
        """Ids between the two marks, at most `limit` with them; and whether something was cut off."""
        ids: list[int] = []
        for word in _words(text):
            ids += self._pieces(word)
            if len(ids) > limit - 2:
                return [self._first, *ids[: limit - 2], self._last], True
        return [self._first, *ids, self._last], False

    def _pieces(self, word: str) -> list[int]:
        """The longest known piece from the left, again and again; one unknown where that fails."""
        if len(word) > _LONGEST_WORD:
            return [self._unknown]
        found: list[int] = []
        start = 0
        while start < len(word):
            end = len(word)
            while start < end and self._id(word, start, end) is None:
                end -= 1
            piece = self._id(word, start, end)
            if piece is None:
                return [self._unknown]
            found.append(piece)
            start = end
        return found

    def _id(self, word: str, start: int, end: int) -> int | None:
        return self._ids.get(word[start:end] if start == 0 else f"##{word[start:end]}")


def _words(text: str) -> Iterator[str]:
    """Piece by piece between spaces: of a long text no more is cleaned than is read."""
    for piece in _PIECE.finditer(text):
        yield from _words_of(piece[0])


def _words_of(piece: str) -> Iterator[str]:
    cleaned = unicodedata.normalize("NFD", "".join(map(_clean, piece)))
    # each character by itself: a whole text would have Greek's last sigma lowered otherwise
    lowered = "".join(char.lower() for char in cleaned if unicodedata.category(char) != "Mn")
    for word in lowered.split(" "):
        start = 0
        for at, char in enumerate(word):
            if _is_punctuation(char):
                if start < at:
                    yield word[start:at]
                yield char
                start = at + 1
        if start < len(word):
            yield word[start:]


def _clean(char: str) -> str:
    if char == "\ufffd" or unicodedata.category(char) in {"Cc", "Cf", "Co"}:
        return ""
    if any(first <= ord(char) <= last for first, last in _CJK):
        return f" {char} "
    return char


def _is_punctuation(char: str) -> bool:
    """ASCII's signs all count, those that Unicode calls symbols too."""
    ascii_sign = "!" <= char <= "~" and not char.isalnum()
    return ascii_sign or unicodedata.category(char).startswith("P")
