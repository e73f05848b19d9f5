"""Writes a weights folder of a GPT-2 that is tiny and has learnt nothing: two layers, 32 numbers per token, by chance.

    usage: .venv/bin/python -m scripts.tiny_gpt2 FOLDER
The files are those of the published model: config.json, vocab.json, merges.txt, model.safetensors. Same bytes always.
"""

import json
import random
import struct
import sys
from pathlib import Path

LAYERS, HEADS, WIDTH, POSITIONS = 2, 4, 32, 128
WORDS = ("the", "market", "pays", "by", "second", "and", "node", "ing")


def main() -> None:
    write(Path(sys.argv[1]))


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    vocabulary, merges = vocabulary_of(WORDS)
    config = {
        "model_type": "gpt2", "activation_function": "gelu_new", "n_layer": LAYERS, "n_head": HEADS, "n_embd": WIDTH,
        "n_positions": POSITIONS, "vocab_size": len(vocabulary), "layer_norm_epsilon": 1e-05,
        "eos_token_id": vocabulary["<|endoftext|>"],
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "".join(f"{a} {b}\n" for a, b in merges))
    (folder / "model.safetensors").write_bytes(safetensors(weights_of(len(vocabulary))))


def vocabulary_of(words: tuple[str, ...]) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """All bytes as the published vocabulary spells them, and what merges letters into these words."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    symbols = [chr(byte) for byte in printable] + [chr(256 + place) for place in range(len(rest))]
    merges: list[tuple[str, str]] = []
    # what stands after a space first: else its letters would be merged without the space
    for word in [*("\u0120" + word for word in words), *words]:
        left = word[0]
        for letter in word[1:]:
            if (left, letter) not in merges:
                merges.append((left, letter))
            left += letter
    tokens = list(dict.fromkeys([*symbols, *(a + b for a, b in merges), "<|endoftext|>"]))
    return {token: place for place, token in enumerate(tokens)}, merges


def weights_of(tokens: int) -> dict[str, tuple[tuple[int, ...], list[float]]]:
    """Shape and numbers by name. Larger than a trained model's, so that what is generated varies."""
    chance = random.Random(7)  # noqa: S311 - no secret

    def numbers(*shape: int, around: float = 0.0, spread: float = 0.3) -> tuple[tuple[int, ...], list[float]]:
        count = 1
        for size in shape:
            count *= size
        return shape, [chance.gauss(around, spread) for _ in range(count)]

    found = {"wte.weight": numbers(tokens, WIDTH, spread=0.8), "wpe.weight": numbers(POSITIONS, WIDTH)}
    for layer in range(LAYERS):
        place = f"h.{layer}."
        for name in ("ln_1", "ln_2"):
            found[f"{place}{name}.weight"] = numbers(WIDTH, around=1.0)
            found[f"{place}{name}.bias"] = numbers(WIDTH)
        for name, (inputs, outputs) in {
            "attn.c_attn": (WIDTH, 3 * WIDTH), "attn.c_proj": (WIDTH, WIDTH),
            "mlp.c_fc": (WIDTH, 4 * WIDTH), "mlp.c_proj": (4 * WIDTH, WIDTH),
        }.items():  # fmt: skip
            found[f"{place}{name}.weight"] = numbers(inputs, outputs)
            found[f"{place}{name}.bias"] = numbers(outputs)
    found["ln_f.weight"], found["ln_f.bias"] = numbers(WIDTH, around=1.0), numbers(WIDTH)
    return found


def safetensors(tensors: dict[str, tuple[tuple[int, ...], list[float]]]) -> bytes:
    header, body = {}, b""
    for name, (shape, values) in tensors.items():
        data = struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}).encode()
    return struct.pack("<Q", len(text)) + text + body


if __name__ == "__main__":
    main()
