"""GPT-2 computed once more, number by number in plain Python, from the formulas: nothing of marketplace/runners/ is used here."""

import json
import math
import struct
from pathlib import Path


def continued(folder: Path, prompt: str, count: int) -> str:
    """The prompt and the likeliest `count` tokens after it. The prompt's words must be tokens of the vocabulary."""
    config = json.loads((folder / "config.json").read_text())
    ids = json.loads((folder / "vocab.json").read_text())
    names = {number: name for name, number in ids.items()}
    first, *others = prompt.split(" ")
    tokens = [ids[first], *(ids["\u0120" + word] for word in others)]
    weights = tensors(folder / "model.safetensors")
    found = list(tokens)
    for _ in range(count):
        scores = logits(config, weights, found)
        found.append(max(range(len(scores)), key=scores.__getitem__))
    return prompt + spelled([names[token] for token in found[len(tokens) :]])


def spelled(names):
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(rest)}
    return bytes(byte_of[letter] for name in names for letter in name).decode(errors="replace")


def tensors(file):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            start, end = entry["data_offsets"]
            found[name] = (entry["shape"], struct.unpack(f"<{(end - start) // 4}f", data[8 + length :][start:end]))
    return found


def logits(config, weights, tokens):
    """Of what follows the last of these tokens."""
    width, heads = config["n_embd"], config["n_head"]
    size = width // heads

    def row(name, number):
        return weights[name][1][number * width : (number + 1) * width]

    def vector(name):
        return weights[name][1]

    def times(x, name):
        (inputs, outputs), flat = weights[name + ".weight"]
        bias = vector(name + ".bias")
        return [bias[o] + sum(x[i] * flat[i * outputs + o] for i in range(inputs)) for o in range(outputs)]

    def normalized(x, name):
        mean = sum(x) / width
        spread = math.sqrt(sum((v - mean) ** 2 for v in x) / width + config["layer_norm_epsilon"])
        return [
            (v - mean) / spread * w + b
            for v, w, b in zip(x, vector(name + ".weight"), vector(name + ".bias"), strict=True)
        ]

    def gelu(v):
        return 0.5 * v * (1 + math.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))

    def added(x, y):
        return [a + b for a, b in zip(x, y, strict=True)]

    states = [added(row("wte.weight", token), row("wpe.weight", place)) for place, token in enumerate(tokens)]
    for layer in range(config["n_layer"]):
        at = f"h.{layer}."
        mixed = [times(normalized(x, at + "ln_1"), at + "attn.c_attn") for x in states]
        for place in range(len(states)):
            seen = []
            for head in range(heads):
                part = slice(head * size, (head + 1) * size)
                query = mixed[place][:width][part]
                scores = [
                    sum(q * k for q, k in zip(query, mixed[p][width : 2 * width][part], strict=True)) / math.sqrt(size)
                    for p in range(place + 1)
                ]
                raised = [math.exp(s - max(scores)) for s in scores]
                shares = [r / sum(raised) for r in raised]
                seen += [sum(s * mixed[p][2 * width :][part][d] for p, s in enumerate(shares)) for d in range(size)]
            states[place] = added(states[place], times(seen, at + "attn.c_proj"))
        for place, x in enumerate(states):
            inner = [gelu(v) for v in times(normalized(x, at + "ln_2"), at + "mlp.c_fc")]
            states[place] = added(x, times(inner, at + "mlp.c_proj"))
    last = normalized(states[-1], "ln_f")
    return [
        sum(a * b for a, b in zip(row("wte.weight", token), last, strict=True)) for token in range(config["vocab_size"])
    ]
