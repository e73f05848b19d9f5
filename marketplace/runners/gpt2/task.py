"""A text in, how it may go on out; with the weights of the image, or with a renter's own that come along in a zip."""

import json
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from marketplace.runners.contract import Job, Refused
from marketplace.runners.gpt2.bpe import BytePairs
from marketplace.runners.gpt2.network import Gpt2, Gpt2Config, Sampling, generate
from marketplace.runners.gpt2.pytorch_file import read_pytorch
from marketplace.runners.safetensors import BROKEN_ARCHIVE, WeightsUnreadable, read_safetensors

MAX_NEW_TOKENS: Final = 1_024
USUAL_NEW_TOKENS: Final = 40
MAX_WEIGHTS_BYTES: Final = 1 << 30
"""Chosen: in the 2 GB of the smallest class; the published model has 548 MB."""
_SMALL_FILES: Final = ("config.json", "vocab.json", "merges.txt")
_TENSOR_FILES: Final = ("model.safetensors", "pytorch_model.bin")
_REQUEST: Final = "request.json"
_WEIGHTS: Final = Path("/weights")


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted: a prompt, so many tokens more at most, and how they are chosen."""

    prompt: str
    max_new_tokens: int
    sampling: Sampling


def work(job: Job) -> None:
    """Let the text go on. Raises Refused."""
    if zipfile.is_zipfile(job.input):
        # on the job's disk, whose room was paid for
        with TemporaryDirectory(dir=Path("/scratch") if os.access("/scratch", os.W_OK) else None) as folder:
            request = read_request(unpack(job.input, Path(folder)))
            write(job, request, Path(folder))
    else:
        write(job, read_request(job.document()), Path(os.environ.get("MODEL_WEIGHTS", _WEIGHTS)))


def write(job: Job, request: Request, weights: Path) -> None:
    """Generate and leave the result. Raises Refused where the weights or the prompt don't fit."""
    network, tokenizer = load(weights)
    places = network.config.positions - 1
    # before it is cut: the time that takes grows with the square of the longest word
    if len(request.prompt.encode(errors="replace")) > places * tokenizer.longest:
        raise Refused(f"the prompt has more than the {places} tokens that this model reads")
    try:
        ids = tokenizer.encode(request.prompt)
    except KeyError as error:
        raise Refused(f"the vocabulary does not know {error}") from error
    if not ids:
        raise Refused("the prompt is empty")
    if len(ids) > places:
        raise Refused(f"the prompt has {len(ids)} tokens; this model reads {places} at most")
    written: list[int] = []
    finish = "length"
    for chosen in generate(network, ids, request.max_new_tokens, request.sampling):
        if chosen == tokenizer.end:
            finish = "end"
            break
        written.append(chosen)
        job.say_progress(len(written), request.max_new_tokens)
    completion = tokenizer.decode(written)
    job.write_json(
        {
            "model": "gpt2",
            "text": request.prompt + completion,
            "completion": completion,
            "prompt_tokens": len(ids),
            "completion_tokens": len(written),
            "finish": finish,
        }
    )
    job.write_text(request.prompt + completion)


def load(folder: Path) -> tuple[Gpt2, BytePairs]:
    """The usual files of a weights folder. Raises Refused saying what is wrong with them."""
    try:
        config = Gpt2Config.of(json.loads((folder / "config.json").read_text()))
        merges = (folder / "merges.txt").read_text().splitlines()
        tokenizer = BytePairs((folder / "vocab.json").read_text(), merges)
        safe = folder / "model.safetensors"
        tensors = read_safetensors(safe.read_bytes()) if safe.exists() else read_pytorch(folder / "pytorch_model.bin")
        return Gpt2(config, tensors), tokenizer
    except FileNotFoundError as error:
        raise Refused(f"the weights have no {Path(str(error.filename)).name}") from error
    except (WeightsUnreadable, ValueError, AttributeError) as error:
        raise Refused(f"the weights can't be read: {error}") from error


def unpack(archive: Path, to: Path) -> object:
    """The files that are needed, by name and nothing else of the zip; what the request is. Raises Refused."""
    try:
        return _unpacked(archive, to)
    except (*BROKEN_ARCHIVE, ValueError) as error:
        raise Refused(f"the zip can't be read: {error}") from error


def _unpacked(archive: Path, to: Path) -> object:
    with zipfile.ZipFile(archive) as opened:
        entries = {Path(entry.filename).name: entry for entry in opened.infolist() if not entry.is_dir()}
        tensors = [name for name in _TENSOR_FILES if name in entries]
        if missing := [name for name in (*_SMALL_FILES, _REQUEST) if name not in entries] + [""][bool(tensors) :]:
            raise Refused(f"the zip has no {missing[0] or ' or '.join(_TENSOR_FILES)}")
        wanted = (*_SMALL_FILES, _REQUEST, tensors[0])
        if sum(entries[name].file_size for name in wanted) > MAX_WEIGHTS_BYTES:
            raise Refused(f"the weights take more than {MAX_WEIGHTS_BYTES} bytes")
        for name in wanted:
            # no more than was said is read of an entry, so that what it says is what it takes
            with opened.open(entries[name]) as source:
                (to / name).write_bytes(source.read(entries[name].file_size))
    return json.loads((to / _REQUEST).read_text())


def read_request(document: object) -> Request:
    """A text, or an object of a prompt and how to go on. Raises Refused."""
    given: dict[str, Any] = {"prompt": document} if isinstance(document, str) else dict(_object(document))
    prompt = given.pop("prompt", None)
    if not isinstance(prompt, str) or not prompt:
        raise Refused("prompt must be a text that isn't empty")
    count = _number(given, "max_new_tokens", USUAL_NEW_TOKENS, (1, MAX_NEW_TOKENS), int)
    temperature = _number(given, "temperature", 0.0, (0, 10), float)
    sampling = Sampling(
        float(temperature),
        int(_number(given, "top_k", 0, (0, 100_000), int)),
        int(_number(given, "seed", 0, (0, 2**63 - 1), int)),
    )
    if given:
        raise Refused(f"{next(iter(given))} is nothing that is understood")
    return Request(prompt, int(count), sampling)


def _object(document: object) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise Refused("the input must be a text or an object with a prompt")
    return document


def _number(given: dict[str, Any], name: str, usual: float, bounds: tuple[float, float], kind: type) -> float:
    value = given.pop(name, usual)
    accepted = (int,) if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, accepted) or not bounds[0] <= value <= bounds[1]:
        raise Refused(f"{name} must be a number from {bounds[0]} to {bounds[1]}")
    return value
