"""GPT-2's parts against independent computations, and what it refuses. Its weights here are tiny and by chance."""

import io
import json
import pickle
import random
import zipfile
from pathlib import Path

import numpy as np
import pytest

from marketplace.runners.contract import Job, Refused
from marketplace.runners.gpt2.bpe import BytePairs, byte_names, split_words
from marketplace.runners.gpt2.network import Gpt2, Gpt2Config, Sampling, generate
from marketplace.runners.gpt2.pytorch_file import read_pytorch
from marketplace.runners.gpt2.task import load, read_request, work
from marketplace.runners.safetensors import WeightsUnreadable, read_safetensors
from scripts import tiny_gpt2
from tests.runners import slow_gpt2

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/tokenizers.json").read_text())


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    tiny_gpt2.write(folder)
    return folder


@pytest.fixture
def tokenizer(weights):
    return BytePairs((weights / "vocab.json").read_text(), (weights / "merges.txt").read_text().splitlines())


@pytest.mark.parametrize("place", range(len(GOLDEN["texts"])))
def test_texts_are_cut_and_spelled_as_the_published_tokenizer_does(place):
    words = list(split_words(GOLDEN["texts"][place]))
    assert words == GOLDEN["gpt2"]["words"][place]
    names = byte_names()
    assert ["".join(names[byte] for byte in word.encode()) for word in words] == GOLDEN["gpt2_spelling"][place]


def test_every_text_comes_back_from_its_ids(tokenizer):
    chance = random.Random(5)
    texts = [*GOLDEN["texts"], "the market pays by the second, and nodes paying"]
    letters = [*range(1, 0xD800), *range(0xE000, 0x20000)]
    texts += ["".join(map(chr, chance.choices(letters, k=20))) for _ in range(50)]
    for text in texts:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("the market pays by the second")) == 6, "words of the list are one token each"
    assert tokenizer.end not in tokenizer.encode("<|endoftext|>"), "what looks like the end mark is text"


def test_what_goes_on_is_what_a_slow_computation_says(weights):
    network, tokenizer = load(weights)
    prompt = "the market pays by"
    ids = tokenizer.encode(prompt)
    logits = slow_gpt2.logits(
        json.loads((weights / "config.json").read_text()), slow_gpt2.tensors(weights / "model.safetensors"), ids
    )
    assert network.logits(ids).tolist() == pytest.approx(logits, abs=2e-3)
    network, _ = load(weights)
    written = tokenizer.decode(list(generate(network, ids, 4, Sampling())))
    assert prompt + written == slow_gpt2.continued(weights, prompt, 4)


def test_chance_is_the_seed_s(weights):
    def ids(**sampling):
        network, tokenizer = load(weights)
        return list(generate(network, tokenizer.encode("the"), 20, Sampling(**sampling)))

    assert ids(temperature=1.0, seed=1) == ids(temperature=1.0, seed=1) != ids(temperature=1.0, seed=2)
    assert ids(temperature=1.0, seed=1, top_k=1) == ids(), "the likeliest of one is the likeliest"
    assert ids(temperature=1e-4) == ids()


def test_a_text_ends_where_the_model_has_no_more_places(weights):
    network, tokenizer = load(weights)
    prompt = tokenizer.encode("the" * 125)
    assert len(prompt) == 125
    assert len(list(generate(network, prompt, 50, Sampling()))) == 3


def job_over(folder, name, data):
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(data)
    return Job(folder / name, folder, None)


def zipped(files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return out.getvalue()


def own(weights, **request):
    files = {f"gpt2/{file.name}": file.read_bytes() for file in weights.iterdir()}
    return files | {"request.json": json.dumps({"prompt": "the market", "max_new_tokens": 5, **request}).encode()}


def test_weights_of_the_renter_s_own_come_in_a_zip(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_WEIGHTS", str(tmp_path / "none"))
    work(job_over(tmp_path, "own.zip", zipped(own(weights))))
    found = json.loads((tmp_path / "result.json").read_text())
    assert (found["completion_tokens"], found["finish"]) == (5, "length")
    assert found["text"] == (tmp_path / "result.txt").read_text() == "the market" + found["completion"]


def without(files, name):
    return {each: data for each, data in files.items() if not each.endswith(name)}


def test_a_zip_that_lacks_something_or_lies_is_refused(weights, tmp_path):
    files = own(weights)
    broken = bytearray(zipped(files))
    place = broken.find(b"model.safetensors") + 4_000
    broken[place : place + 400] = b"\xff" * 400
    for data, said in (
        (zipped(without(files, "request.json")), "no request.json"),
        (zipped(without(files, "vocab.json")), "no vocab.json"),
        (zipped(without(files, "model.safetensors")), "no model.safetensors or pytorch_model.bin"),
        (zipped(files | {"request.json": b"{"}), "can't be read"),
        (zipped(files | {"request.json": b"[]"}), "prompt"),
        (zipped(files | {"gpt2/model.safetensors": b"junk" * 100}), "weights can't be read"),
        (zipped(files | {"gpt2/config.json": b"{}"}), "none of a GPT-2"),
        (zipped(files | {"gpt2/config.json": b"[]"}), "weights can't be read"),
        (bytes(broken), "can't be read"),
    ):
        with pytest.raises(Refused, match=said):
            work(job_over(tmp_path, "own.zip", data))
    assert {file.name for file in tmp_path.iterdir()} == {"own.zip"}, "nothing of a refused zip is left"


def test_more_weights_than_there_is_memory_are_refused_by_what_the_zip_says(weights, tmp_path, monkeypatch):
    monkeypatch.setattr("marketplace.runners.gpt2.task.MAX_WEIGHTS_BYTES", 10_000)
    with pytest.raises(Refused, match="more than 10000 bytes"):
        work(job_over(tmp_path, "own.zip", zipped(own(weights))))


@pytest.mark.parametrize(
    ("document", "said"),
    [
        (None, "text or an object"), ([], "text or an object"), ("", "prompt"), ({}, "prompt"), ({"prompt": 5}, "prompt"),
        ({"prompt": "a", "max_new_tokens": 0}, "max_new_tokens"), ({"prompt": "a", "max_new_tokens": True}, "max_new_tokens"),
        ({"prompt": "a", "max_new_tokens": 1.5}, "max_new_tokens"), ({"prompt": "a", "temperature": -1}, "temperature"),
        ({"prompt": "a", "temperature": float("nan")}, "temperature"), ({"prompt": "a", "seed": "x"}, "seed"),
        ({"prompt": "a", "beams": 3}, "beams"),
    ],
)  # fmt: skip
def test_what_is_no_request_is_refused_by_the_field_s_name(document, said):
    with pytest.raises(Refused, match=said):
        read_request(document)


def test_a_prompt_that_is_longer_than_the_model_reads_is_refused(weights, tmp_path, monkeypatch):
    monkeypatch.setenv("MODEL_WEIGHTS", str(weights))
    with pytest.raises(Refused, match="prompt has 128 tokens; this model reads 127 at most"):
        work(job_over(tmp_path, "input.txt", b"the" * 128))
    # a million letters of one word would take an hour to be cut into tokens first
    with pytest.raises(Refused, match="more than the 127 tokens that this model reads"):
        work(job_over(tmp_path, "input.txt", b"x" * 1_000_000))


def test_weights_that_lack_a_matrix_are_refused_by_its_name(weights):
    tensors = read_safetensors((weights / "model.safetensors").read_bytes())
    del tensors["h.1.mlp.c_fc.weight"]
    config = Gpt2Config.of(json.loads((weights / "config.json").read_text()))
    with pytest.raises(WeightsUnreadable, match=r"h\.1\.mlp\.c_fc\.weight"):
        Gpt2(config, tensors)


class _Named:
    """Pickles as a global of any name, as PyTorch's files hold them."""

    def __init__(self, module, name):
        self.module, self.name = module, name


class _Pickler(pickle._Pickler):
    """Writes what torch.save writes, without PyTorch."""

    def persistent_id(self, value):
        return value.pid if isinstance(value, _Storage) else None

    def save(self, value, save_persistent_id=True):
        if isinstance(value, _Named):
            self.write(b"c" + f"{value.module}\n{value.name}\n".encode())
        elif isinstance(value, _Call):
            self.save(value.function)
            self.save(value.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(value, save_persistent_id)


class _Storage:
    def __init__(self, kind, key, count):
        self.pid = ("storage", _Named("torch", kind), key, "cpu", count)


class _Call:
    def __init__(self, function, arguments):
        self.function, self.arguments = function, arguments


def tensor(kind, key, count, offset, size, stride):
    rebuild = _Named("torch._utils", "_rebuild_tensor_v2")
    return _Call(rebuild, (_Storage(kind, key, count), offset, size, stride, False, None))


def pytorch_file(folder, value, storages):
    out = io.BytesIO()
    _Pickler(out, 2).dump(value)
    files = {"archive/data.pkl": out.getvalue()} | {f"archive/data/{key}": data for key, data in storages.items()}
    (folder / "pytorch_model.bin").write_bytes(zipped(files))
    return folder / "pytorch_model.bin"


def test_weights_of_pytorch_are_read_without_pytorch(tmp_path):
    numbers = np.arange(6, dtype="<f4")
    value = {
        "whole": tensor("FloatStorage", "0", 6, 0, (2, 3), (3, 1)),
        "turned": tensor("FloatStorage", "0", 6, 0, (3, 2), (1, 3)),
        "part": tensor("FloatStorage", "0", 6, 4, (2,), (1,)),
        "half": tensor("HalfStorage", "1", 2, 0, (2,), (1,)),
        "brain": tensor("BFloat16Storage", "2", 2, 0, (2,), (1,)),
        "ids": tensor("LongStorage", "3", 1, 0, (1,), (1,)),
    }
    storages = {"0": numbers.tobytes(), "1": b"\0\x3c\0\xc0", "2": b"\x80\x3f\0\xc0", "3": b"\0" * 8}
    found = read_pytorch(pytorch_file(tmp_path, value, storages))
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        "whole": [[0, 1, 2], [3, 4, 5]], "turned": [[0, 3], [1, 4], [2, 5]], "part": [4, 5],
        "half": [1, -2], "brain": [1, -2],
    }  # fmt: skip


@pytest.mark.parametrize(
    "value",
    [
        _Call(_Named("os", "system"), ("touch /tmp/was-run",)),
        _Call(_Named("builtins", "eval"), ("1",)),
        {"a": _Named("torch", "load")},
        {"a": tensor("FloatStorage", "0", 6, 4, (3,), (1,))},
        {"a": tensor("FloatStorage", "0", 6, -1, (2,), (1,))},
        {"a": tensor("FloatStorage", "0", 6, 5, (3,), (-1,))},
        {"a": tensor("FloatStorage", "9", 6, 0, (6,), (1,))},
        [1, 2],
    ],
)
def test_a_file_that_runs_something_or_reaches_beyond_its_numbers_is_refused(tmp_path, value):
    with pytest.raises(WeightsUnreadable):
        read_pytorch(pytorch_file(tmp_path, value, {"0": np.arange(6, dtype="<f4").tobytes()}))
    (tmp_path / "junk").write_bytes(b"junk")
    with pytest.raises(WeightsUnreadable):
        read_pytorch(tmp_path / "junk")
