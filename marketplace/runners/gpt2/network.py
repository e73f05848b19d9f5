"""GPT-2's forward pass, a token at a time after the first: what earlier tokens gave is kept.

Shapes: T new tokens, P earlier ones, H numbers per token. Source: Radford et al. (2019) and the published weights,
whose matrices lie as (inputs, outputs).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from marketplace.runners.safetensors import Tensors, WeightsUnreadable

Array = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Gpt2Config:
    """The fields of `config.json` that the computation depends on. positions: longest text in tokens."""

    layers: int
    heads: int
    positions: int
    epsilon: float

    @classmethod
    def of(cls, config: dict[str, Any]) -> "Gpt2Config":
        """Raises WeightsUnreadable for another model, or one that isn't computed as GPT-2 is."""
        try:
            if config.get("activation_function", "gelu_new") != "gelu_new" or config.get(
                "scale_attn_by_inverse_layer_idx"
            ):
                raise WeightsUnreadable("config.json asks for something else than GPT-2 computes")
            return cls(
                config["n_layer"], config["n_head"], config["n_positions"], config.get("layer_norm_epsilon", 1e-5)
            )
        except KeyError as error:
            raise WeightsUnreadable(f"config.json is none of a GPT-2: it has no {error}") from error


class Gpt2:
    """weights: by the names of the published file, with or without `transformer.` before them."""

    def __init__(self, config: Gpt2Config, weights: Tensors) -> None:
        self.config = config
        self._weights = {name.removeprefix("transformer."): tensor for name, tensor in weights.items()}
        needed = ["wte.weight", "wpe.weight", "ln_f.weight", "ln_f.bias"]
        needed += [f"h.{layer}.{name}" for layer in range(config.layers) for name in _OF_A_LAYER]
        if missing := [name for name in needed if name not in self._weights]:
            raise WeightsUnreadable(
                f"the weights lack {missing[0]}" + (f" and {len(missing) - 1} more" * (len(missing) > 1))
            )
        self._kept: list[tuple[Array, Array]] = []

    def logits(self, ids: Sequence[int]) -> Array:
        """(vocabulary,): how likely each token is next, after these and those of the calls before."""
        earlier = self._kept[0][0].shape[1] if self._kept else 0
        x = self._weights["wte.weight"][list(ids)] + self._weights["wpe.weight"][earlier : earlier + len(ids)]
        for layer in range(self.config.layers):
            x = x + self._attended(self._normalized(x, f"h.{layer}.ln_1"), layer)
            inner = gelu_new(self._linear(self._normalized(x, f"h.{layer}.ln_2"), f"h.{layer}.mlp.c_fc"))
            x = x + self._linear(inner, f"h.{layer}.mlp.c_proj")
        last = self._normalized(x[-1:], "ln_f")[0]
        found: Array = self._weights.get("lm_head.weight", self._weights["wte.weight"]) @ last
        return found

    def _attended(self, x: Array, layer: int) -> Array:
        tokens, width = x.shape
        heads = self.config.heads
        mixed = self._linear(x, f"h.{layer}.attn.c_attn").reshape(tokens, 3, heads, width // heads)
        query, keys, values = mixed.transpose(1, 2, 0, 3)
        if layer < len(self._kept):
            keys = np.concatenate((self._kept[layer][0], keys), axis=1)
            values = np.concatenate((self._kept[layer][1], values), axis=1)
            self._kept[layer] = (keys, values)
        else:
            self._kept.append((keys, values))
        scores = query @ keys.transpose(0, 2, 1) / np.float32(np.sqrt(width // heads))
        # a token sees itself and those before it
        later = np.triu(np.ones((tokens, keys.shape[1]), dtype=bool), k=1 + keys.shape[1] - tokens)
        scores[:, later] = -np.inf
        raised = np.exp(scores - scores.max(axis=-1, keepdims=True))
        seen = raised / raised.sum(axis=-1, keepdims=True) @ values
        return self._linear(seen.transpose(1, 0, 2).reshape(tokens, width), f"h.{layer}.attn.c_proj")

    def _linear(self, x: Array, name: str) -> Array:
        return x @ self._weights[name + ".weight"] + self._weights[name + ".bias"]

    def _normalized(self, x: Array, name: str) -> Array:
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = np.sqrt((centred * centred).mean(axis=-1, keepdims=True) + np.float32(self.config.epsilon))
        found: Array = centred / spread * self._weights[name + ".weight"] + self._weights[name + ".bias"]
        return found


_OF_A_LAYER = [
    f"{part}.{kind}"
    for part in ("ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj")
    for kind in ("weight", "bias")
]


@dataclass(frozen=True, slots=True)
class Sampling:
    """temperature: 0 takes the likeliest token. top_k: among so many, 0 among all. seed: same seed, same text."""

    temperature: float = 0.0
    top_k: int = 0
    seed: int = 0


def generate(network: Gpt2, prompt: Sequence[int], count: int, sampling: Sampling) -> Iterator[int]:
    """The ids that follow, at most `count` and no more than there are positions."""
    chance = np.random.default_rng(sampling.seed)
    given = list(prompt)
    for _ in range(min(count, network.config.positions - len(prompt))):
        chosen = _choose(network.logits(given), sampling, chance)
        yield chosen
        given = [chosen]


def _choose(logits: Array, sampling: Sampling, chance: np.random.Generator) -> int:
    if sampling.temperature == 0:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / sampling.temperature
    if 0 < sampling.top_k < scaled.size:
        least = np.partition(scaled, -sampling.top_k)[-sampling.top_k]
        scaled[scaled < least] = -np.inf
    raised = np.exp(scaled - scaled.max())
    return int(chance.choice(scaled.size, p=raised / raised.sum()))


def gelu_new(x: Array) -> Array:
    """The approximation that GPT-2 was trained with."""
    cubed = x + np.float32(0.044715) * x * x * x
    found: Array = np.float32(0.5) * x * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * cubed))
    return found
