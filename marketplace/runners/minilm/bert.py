"""The forward pass of a BERT encoder, and a sentence's vector from it: mean of its tokens, length one.

Shapes: B texts, T tokens of the longest of them, H numbers per token. Source: Devlin et al., arXiv:1810.04805.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from marketplace.runners.safetensors import Tensors

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class BertConfig:
    """The fields of `config.json` that the computation depends on."""

    layers: int
    heads: int
    epsilon: float

    @classmethod
    def of(cls, config: dict[str, Any]) -> "BertConfig":
        """Raises ValueError for an activation or position scheme that isn't computed here."""
        if config["hidden_act"] != "gelu" or config.get("position_embedding_type", "absolute") != "absolute":
            raise ValueError("only gelu and absolute positions are computed here")
        return cls(config["num_hidden_layers"], config["num_attention_heads"], config["layer_norm_eps"])


class Bert:
    """weights: by the names of the published file."""

    def __init__(self, config: BertConfig, weights: Tensors) -> None:
        self._config = config
        self._weights = weights

    def sentence_vectors(self, texts: Sequence[Sequence[int]]) -> Array:
        """(B, H): a vector of length one for each text's token ids."""
        longest = max(len(ids) for ids in texts)
        ids = np.zeros((len(texts), longest), dtype=np.int64)
        mask = np.zeros((len(texts), longest), dtype=np.float32)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        states = self._encode(ids, mask)
        means = (states * mask[:, :, None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        lengths = np.sqrt((means * means).sum(axis=1, keepdims=True))
        vectors: Array = means / np.maximum(lengths, np.float32(1e-12))
        return vectors

    def _encode(self, ids: npt.NDArray[np.int64], mask: Array) -> Array:
        """(B, T) ids and mask of ones → (B, T, H)."""
        place = "embeddings."
        x = self._weights[place + "word_embeddings.weight"][ids]
        x = x + self._weights[place + "position_embeddings.weight"][: ids.shape[1]]
        x = x + self._weights[place + "token_type_embeddings.weight"][0]
        x = self._normalized(x, place + "LayerNorm")
        barred = ((mask - 1) * np.float32(1e9))[:, None, None, :]
        for layer in range(self._config.layers):
            place = f"encoder.layer.{layer}."
            x = self._normalized(x + self._attended(x, barred, place), place + "attention.output.LayerNorm")
            inner = gelu(self._linear(x, place + "intermediate.dense"))
            x = self._normalized(x + self._linear(inner, place + "output.dense"), place + "output.LayerNorm")
        return x

    def _attended(self, x: Array, barred: Array, place: str) -> Array:
        batch, tokens, width = x.shape
        heads = self._config.heads
        size = width // heads

        def split(name: str) -> Array:
            y = self._linear(x, f"{place}attention.self.{name}")
            return y.reshape(batch, tokens, heads, size).transpose(0, 2, 1, 3)

        scores = split("query") @ split("key").transpose(0, 1, 3, 2) / np.float32(np.sqrt(size)) + barred
        mixed = softmax(scores) @ split("value")
        return self._linear(mixed.transpose(0, 2, 1, 3).reshape(x.shape), place + "attention.output.dense")

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self._weights[name + ".weight"].T + self._weights[name + ".bias"]

    def _normalized(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self._config.epsilon))
        found: Array = centred / spread * self._weights[name + ".weight"] + self._weights[name + ".bias"]
        return found


def softmax(x: Array) -> Array:
    """Over the last axis."""
    raised = np.exp(x - x.max(axis=-1, keepdims=True))
    shares: Array = raised / raised.sum(axis=-1, keepdims=True)
    return shares


def gelu(x: Array) -> Array:
    """X times the normal distribution's share below x."""
    return x * np.float32(0.5) * (1 + erf(x * np.float32(np.sqrt(0.5))))


def erf(x: Array) -> Array:
    """The error function, wrong by at most 1.5e-7. Source: Abramowitz and Stegun, formula 7.1.26."""
    t = 1 / (1 + np.float32(0.3275911) * np.abs(x))
    series = np.zeros_like(t)
    for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        series = (series + np.float32(factor)) * t
    found: Array = np.sign(x) * (1 - series * np.exp(-x * x))
    return found
