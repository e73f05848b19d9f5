"""Writes tests/golden/tokenizers.json: what the published tokenizers make of texts, for ours to be held against.

    usage: uv run --no-project --with tokenizers==0.23.3 python tests/runners/write_golden.py VOCAB.TXT
VOCAB.TXT: of all-MiniLM-L6-v2; of it the golden file keeps the pieces that these texts can be cut into.
"""

import json
import sys
import unicodedata
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers

TEXTS = (
    "Hello market, how's it going?",
    "unaffordability of hyperparameterisation",
    "don't WON'T we've I'll o'clock 'S",
    "  two  spaces\tand\na line\r\n",
    "Crème brûlée, naïve façade – “quoted” …",  # noqa: RUF001 - they are what is tested
    "İstanbul ΟΔΥΣΣΕΥΣ straße ﬁne",
    "北京 is Beijing, 日本語 too; 한국어 as well",
    "e-mail foo_bar C++ $5.00 50% (a)[b]{c} ~^`|",
    "½ ² ۱۲۳ 1,234,567.89 Ⅷ",
    "zero\u200bwidth soft\u00adhyphen nbsp\u00a0here ideographic\u3000space",
    "control\x01\x1c\x85\x7fcharacters \ufffd end",
    "emoji 😀👩‍🚀 flags 🇫🇷 हिन्दी",
    "a" * 101 + " " + "b" * 100,
    "",
    " ",
)
MARKS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def main() -> None:
    vocabulary = pieces_of(Path(sys.argv[1]).read_text().splitlines())
    bert = Tokenizer(models.WordPiece({piece: place for place, piece in enumerate(vocabulary)}, unk_token="[UNK]"))
    bert.normalizer, bert.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    words = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found = {
        "made_by": "tests/runners/write_golden.py, tokenizers 0.23.3",
        "texts": TEXTS,
        "wordpiece": {"vocabulary": vocabulary, "pieces": [bert.encode(text).tokens for text in TEXTS]},
        "gpt2": {"words": [[text[start:end] for _, (start, end) in words.pre_tokenize_str(text)] for text in TEXTS]},
        "gpt2_spelling": [[piece for piece, _ in words.pre_tokenize_str(text)] for text in TEXTS],
    }
    assert decoders.ByteLevel().decode(found["gpt2_spelling"][0]) == TEXTS[0]
    Path("tests/golden/tokenizers.json").write_text(json.dumps(found, ensure_ascii=True, indent=1) + "\n")


def pieces_of(vocabulary: list[str]) -> list[str]:
    """Those that stand somewhere in the texts, however they are cleaned."""
    plain = " ".join(unicodedata.normalize("NFD", text) for text in TEXTS)
    plain = "".join(char for char in plain if unicodedata.category(char) not in {"Mn", "Cf", "Cc"}).lower()
    return [*MARKS, *(piece for piece in vocabulary if piece not in MARKS and piece.removeprefix("##") in plain)]


if __name__ == "__main__":
    main()
