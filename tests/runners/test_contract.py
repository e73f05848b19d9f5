"""What every model keeps to: its input, its result, its threads, and how it says no. Real processes, no container."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from marketplace.runners.contract import MAX_DOCUMENT_BYTES, Job, Refused, job_of, processors
from marketplace.runners.safetensors import WeightsUnreadable, read_safetensors
from scripts import tiny_gpt2

ROOT = Path(__file__).parents[2]


def given(folder, name, data):
    file = folder / name
    file.write_bytes(data)
    return Job(file, folder, folder / "progress")


def test_the_input_is_json_by_its_name_and_text_otherwise(tmp_path):
    assert given(tmp_path, "input.json", b'{"a": [1]}').document() == {"a": [1]}
    assert given(tmp_path, "Upload.JSON", b'"x"').document() == "x"
    assert given(tmp_path, "input.txt", b'{"a"').document() == '{"a"'
    assert given(tmp_path, "notes", "größer 😀".encode()).document() == "größer 😀"


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        ("input.json", b"{", "is not JSON"),
        ("input.json", b"[" * 100_000, "is not JSON"),
        ("input.txt", b"ok\xff", r"not UTF-8 text \(byte 2\)"),
        ("input.json", b"\xfe\xff", "not UTF-8"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, name, data, said):
    with pytest.raises(Refused, match=said):
        given(tmp_path, name, data).document()


def test_what_is_too_large_is_refused_before_it_is_read(tmp_path):
    job = given(tmp_path, "input.txt", b"")
    os.truncate(job.input, MAX_DOCUMENT_BYTES + 1)
    with pytest.raises(Refused, match="at most"):
        job.text()


def test_a_job_without_an_input_is_refused(tmp_path):
    for environment in ({}, {"REAVER_INPUT": ""}, {"REAVER_INPUT": str(tmp_path / "missing")}):
        with pytest.raises(Refused, match="no input"):
            job_of(environment)


def test_a_result_and_its_progress_lie_where_the_node_looks(tmp_path):
    job = given(tmp_path, "input.txt", b"x")
    job.say_progress(1, 3)
    assert job.progress.read_text() == "33\n"
    job.write_json({"a": "ü"})
    job.write_text("half \ud800 a pair")
    job.write_binary(b"\0\1")
    assert json.loads((tmp_path / "result.json").read_text()) == {"a": "ü"}
    assert (tmp_path / "result.txt").read_text() == "half ? a pair"
    assert (tmp_path / "result.bin").read_bytes() == b"\0\1"


@pytest.mark.parametrize(
    ("text", "wanted"), [("max 100000", None), ("100000 100000", 1), ("50000 100000", 1), ("junk", None)]
)
def test_as_many_threads_as_the_container_has_processors(tmp_path, text, wanted):
    v2 = tmp_path / "cpu.max"
    v2.write_text(text)
    assert processors(v2, (tmp_path / "no", tmp_path / "no")) == (wanted or len(os.sched_getaffinity(0)))


def test_the_older_kind_of_quota_is_read_too(tmp_path):
    quota, period = tmp_path / "quota", tmp_path / "period"
    period.write_text("100000\n")
    for written, wanted in (("100000\n", 1), ("-1\n", len(os.sched_getaffinity(0)))):
        quota.write_text(written)
        assert processors(tmp_path / "no", (quota, period)) == wanted


def test_a_refused_input_ends_the_process_with_65_and_one_line(tmp_path):
    tiny_gpt2.write(tmp_path / "weights")
    for data, code, said in ((b"the market", 0, ""), (b"\xff\xfe\x00", 65, "input refused: input.txt is not UTF-8")):
        (tmp_path / "input.txt").write_bytes(data)
        environment = {
            "REAVER_INPUT": str(tmp_path / "input.txt"), "REAVER_OUTPUTS": str(tmp_path),
            "MODEL_WEIGHTS": str(tmp_path / "weights"), "PATH": os.environ["PATH"],
        }  # fmt: skip
        words = [sys.executable, "-m", "marketplace.runners.gpt2"]
        done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stderr
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == bool(said)
    assert json.loads((tmp_path / "result.json").read_text())["prompt_tokens"] == 2


def tensor_file(entry, body=b"\0" * 8):
    header = json.dumps({"a": entry}).encode()
    return len(header).to_bytes(8, "little") + header + body


def test_weights_are_read_in_the_usual_precisions():
    for kind, body in (("F32", b"\0\0\x80\x3f\0\0\0\xc0"), ("BF16", b"\x80\x3f\0\xc0"), ("F16", b"\0\x3c\0\xc0")):
        (tensor,) = read_safetensors(
            tensor_file({"dtype": kind, "shape": [1, 2], "data_offsets": [0, len(body)]}, body)
        ).values()
        assert tensor.tolist() == [[1.0, -2.0]], kind
    assert read_safetensors(tensor_file({"dtype": "I64", "shape": [1], "data_offsets": [0, 8]})) == {}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"junk", b"\xff" * 16, b"\x02\0\0\0\0\0\0\0[]",
        tensor_file({"dtype": "F32", "shape": [9], "data_offsets": [0, 8]}),
        tensor_file({"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}, b""),
        tensor_file({"dtype": "BF16", "shape": [1], "data_offsets": [0, 8]}),
        tensor_file({"dtype": "F32"}), tensor_file([1]), tensor_file({"dtype": "F32", "shape": ["x"], "data_offsets": [0, 8]}),
    ],
)  # fmt: skip
def test_weights_that_make_no_sense_are_refused(data):
    with pytest.raises(WeightsUnreadable):
        read_safetensors(data)
