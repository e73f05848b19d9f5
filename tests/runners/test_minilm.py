"""The embedding model's parts against independent computations; the whole of it runs in tests/e2e/test_models.py."""

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest

from marketplace.runners.minilm.bert import Bert, BertConfig, erf
from marketplace.runners.minilm.wordpiece import WordPiece

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/tokenizers.json").read_text())
VOCABULARY = GOLDEN["wordpiece"]["vocabulary"]


@pytest.mark.parametrize("place", range(len(GOLDEN["texts"])))
def test_texts_are_cut_as_the_published_tokenizer_cuts_them(place):
    ids, cut = WordPiece(VOCABULARY).encode(GOLDEN["texts"][place], 1_000)
    assert [VOCABULARY[number] for number in ids] == ["[CLS]", *GOLDEN["wordpiece"]["pieces"][place], "[SEP]"]
    assert not cut


def test_a_text_that_is_too_long_is_cut_off_and_its_marks_stay():
    tokenizer = WordPiece(VOCABULARY)
    ids, cut = tokenizer.encode("market " * 50, 10)
    assert (len(ids), cut) == (10, True)
    assert (VOCABULARY[ids[0]], VOCABULARY[ids[-1]], VOCABULARY[ids[5]]) == ("[CLS]", "[SEP]", "market")


def test_a_mark_in_a_text_is_text():
    tokenizer = WordPiece(VOCABULARY)
    assert VOCABULARY.index("[SEP]") not in tokenizer.encode("a [SEP] b", 100)[0][:-1]


def test_the_error_function_is_as_exact_as_the_numbers_are():
    xs = np.linspace(-5, 5, 2_001, dtype=np.float32)
    assert max(abs(float(found) - math.erf(x)) for found, x in zip(erf(xs), xs.tolist(), strict=True)) < 5e-7


WIDTH, HEADS, LAYERS, TOKENS, INNER = 8, 2, 2, 12, 16


def random_weights():
    chance = random.Random(3)
    shapes = {
        "embeddings.word_embeddings.weight": (TOKENS, WIDTH),
        "embeddings.position_embeddings.weight": (16, WIDTH),
    }
    shapes["embeddings.token_type_embeddings.weight"] = (2, WIDTH)
    names = {"embeddings.LayerNorm": (WIDTH,)}
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        names |= {f"{at}attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")}
        names |= {f"{at}attention.output.dense": (WIDTH, WIDTH), f"{at}attention.output.LayerNorm": (WIDTH,)}
        names |= {
            f"{at}intermediate.dense": (INNER, WIDTH),
            f"{at}output.dense": (WIDTH, INNER),
            f"{at}output.LayerNorm": (WIDTH,),
        }
    for name, shape in names.items():
        shapes[name + ".weight"], shapes[name + ".bias"] = shape, shape[:1]
    return {
        name: np.array([chance.gauss(0, 0.5) for _ in range(math.prod(shape))], dtype=np.float32).reshape(shape)
        for name, shape in shapes.items()
    }


def slow_vector(weights, ids):
    """The same sentence's vector, number by number."""
    w = {name: tensor.tolist() for name, tensor in weights.items()}

    def linear(x, name):
        return [
            sum(a * b for a, b in zip(x, row, strict=True)) + bias
            for row, bias in zip(w[name + ".weight"], w[name + ".bias"], strict=True)
        ]

    def norm(x, name):
        mean = sum(x) / len(x)
        spread = math.sqrt(sum((v - mean) ** 2 for v in x) / len(x) + 1e-12)
        return [(v - mean) / spread * a + b for v, a, b in zip(x, w[name + ".weight"], w[name + ".bias"], strict=True)]

    def plus(*vectors):
        return [sum(values) for values in zip(*vectors, strict=True)]

    e, size = "embeddings.", WIDTH // HEADS
    states = [
        norm(
            plus(
                w[e + "word_embeddings.weight"][token],
                w[e + "position_embeddings.weight"][place],
                w[e + "token_type_embeddings.weight"][0],
            ),
            e + "LayerNorm",
        )
        for place, token in enumerate(ids)
    ]
    for layer in range(LAYERS):
        at = f"encoder.layer.{layer}."
        q, k, v = ([linear(x, f"{at}attention.self.{part}") for x in states] for part in ("query", "key", "value"))
        after = []
        for place, x in enumerate(states):
            seen = []
            for head in range(HEADS):
                part = slice(head * size, head * size + size)
                raised = [
                    math.exp(sum(a * b for a, b in zip(q[place][part], key[part], strict=True)) / math.sqrt(size))
                    for key in k
                ]
                seen += [
                    sum(r * value[part][d] for r, value in zip(raised, v, strict=True)) / sum(raised)
                    for d in range(size)
                ]
            after.append(norm(plus(x, linear(seen, at + "attention.output.dense")), at + "attention.output.LayerNorm"))
        states = []
        for x in after:
            inner = [0.5 * y * (1 + math.erf(y / math.sqrt(2))) for y in linear(x, at + "intermediate.dense")]
            states.append(norm(plus(x, linear(inner, at + "output.dense")), at + "output.LayerNorm"))
    mean = [sum(values) / len(states) for values in zip(*states, strict=True)]
    length = math.sqrt(sum(value * value for value in mean))
    return [value / length for value in mean]


def test_vectors_of_texts_of_unlike_length_are_those_of_a_slow_computation():
    weights = random_weights()
    texts = [[1, 5, 9, 2, 7], [1, 2], [3]]
    found = Bert(BertConfig(LAYERS, HEADS, 1e-12), weights).sentence_vectors(texts)
    for vector, ids in zip(found.tolist(), texts, strict=True):
        assert vector == pytest.approx(slow_vector(weights, ids), abs=2e-5)


def test_another_activation_is_not_passed_off_as_this_one():
    with pytest.raises(ValueError, match="gelu"):
        BertConfig.of({"hidden_act": "relu", "num_hidden_layers": 1, "num_attention_heads": 1, "layer_norm_eps": 1e-12})
