"""Models by their names on real processes: images that scripts/models built, run in real containers, and what it costs.

The images are made once and kept (REAVER_CACHE/models); where nothing is kept yet, the first test waits for that.
"""

import io
import json
import subprocess
import sys
import tomllib
import zipfile

import pytest
from PIL import Image, ImageDraw, ImageFont

from scripts import tiny_gpt2
from scripts.job_money import units
from scripts.local_stack import ROOT
from tests.e2e.test_faults import _quiet, start_dead_nodes
from tests.e2e.test_jobs import TERMINAL, ended
from tests.e2e.test_transfers import call
from tests.runners.slow_gpt2 import continued

__all__ = ["_quiet"]
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.engine,
    pytest.mark.xdist_group("stack"),
    pytest.mark.timeout(900),
]
PUBLISHED = (
    ("The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."),
    {(0, 1): 0.6660, (0, 2): 0.1046, (1, 2): 0.1411},
)
"""Sentences and their similarities as the model's authors print them (sbert.net, Quickstart), to four digits."""


@pytest.fixture(scope="module")
def models(stack, tmp_path_factory):
    """The market's file of models, written by the build; the market started anew over it."""
    folder = tmp_path_factory.mktemp("models")
    tiny_gpt2.write(folder / "weights")
    file = folder / "models.toml"
    words = ["scripts/models", "build", "--weights", str(folder / "weights"), "--file", str(file)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    print(done.stderr, file=sys.stderr)
    if "[models]" not in stack.config.read_text():
        with stack.config.open("a") as config:
            config.write(f'[models]\nfile = "{file}"\n')
    stack.market.stop()
    stack.start_market()
    start_dead_nodes(stack)
    return {"folder": folder / "weights", "entries": tomllib.loads(file.read_text())}


def run(stack, model, given, **fields):
    body = {"model": model, "input": given, "maxMinutes": 10, "max_price_per_hour": "1", **fields}
    job_id = stack.submit(body)["job_id"]
    stack.wait_job(job_id, TERMINAL, 180)
    return ended(stack, job_id)


def picture(*lines, size=(640, 160)):
    image = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(40)
    for place, line in enumerate(lines):
        draw.text((20, 20 + 70 * place), line, fill="black", font=font)
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()


def upload(stack, name, data):
    raw, _ = call(stack, "POST", f"/v1/files?name={name}", data, **{"Content-Type": "application/octet-stream"})
    return json.loads(raw)["file_id"]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_sentences_become_the_vectors_that_are_published_and_are_paid_by_the_millisecond(stack, models):
    listed = {model["name"]: model for model in stack.get("/v1/models", wallet=True)["models"]}
    assert set(listed) == {"all-minilm-l6-v2", "gpt2", "rapidocr"}
    sentences, similarities = PUBLISHED
    job = run(stack, "all-minilm-l6-v2", list(sentences))
    assert (job["status"], job["reason"], job["exit_code"]) == ("completed", "completed", 0), job
    assert job["image_digest"] == listed["all-minilm-l6-v2"]["image"].split("@")[1]
    result = job["result"]
    assert (result["count"], result["dimensions"], result["truncated"]) == (3, 384, [])
    vectors = result["embeddings"]
    for (one, other), published in similarities.items():
        assert round(dot(vectors[one], vectors[other]), 4) == published
    raw, _ = call(stack, "GET", f"/v1/jobs/{job['job_id']}/download?format=binary")
    assert len(raw) == 3 * 384 * 4
    s = job["settlement"]
    assert 0 < s["billed_ms"] < 60_000
    assert units(s["paid"]) == units(s["price_per_hour"]) * s["billed_ms"] // 3_600_000


def test_a_picture_that_was_uploaded_is_read(stack, models):
    job = run(stack, "rapidocr", upload(stack, "page.png", picture("Hello market 2026", "second line")))
    assert (job["status"], job["exit_code"]) == ("completed", 0), job
    assert job["result"]["text"] == "Hello market 2026\nsecond line"
    assert [line["text"] for line in job["result"]["lines"]] == ["Hello market 2026", "second line"]
    text, _ = call(stack, "GET", f"/v1/jobs/{job['job_id']}/download?format=text")
    assert text.decode() == "Hello market 2026\nsecond line"


def test_gpt2_goes_on_with_the_weights_it_was_built_with_as_a_slow_computation_says(stack, models):
    job = run(stack, "gpt2", {"prompt": "the market pays", "max_new_tokens": 6})
    assert (job["status"], job["exit_code"]) == ("completed", 0), job
    assert job["result"]["text"] == continued(models["folder"], "the market pays", 6)
    assert (job["result"]["prompt_tokens"], job["result"]["completion_tokens"]) == (3, 6)


def test_gpt2_goes_on_with_weights_that_a_renter_uploads(stack, models, tmp_path):
    with zipfile.ZipFile(tmp_path / "own.zip", "w") as archive:
        for file in models["folder"].iterdir():
            archive.write(file, f"weights/{file.name}")
        archive.writestr("request.json", json.dumps({"prompt": "by second", "max_new_tokens": 4}))
    job = run(stack, "gpt2", upload(stack, "own.zip", (tmp_path / "own.zip").read_bytes()))
    assert (job["status"], job["exit_code"]) == ("completed", 0), job
    assert job["result"]["text"] == continued(models["folder"], "by second", 4)


def test_an_upload_that_the_model_can_t_read_ends_with_its_words_and_only_its_seconds_are_paid(stack, models):
    job = run(stack, "rapidocr", upload(stack, "page.png", b"\x89PNG no picture"))
    assert (job["status"], job["reason"], job["exit_code"]) == ("failed", "app_error", 65)
    assert 0 < units(job["settlement"]["paid"]) < units(job["settlement"]["deposit"])
    logs = stack.command("reaver", "jobs", "logs", job["job_id"], environment=stack.environment)
    assert "input refused: page.png is no picture" in logs


def test_what_no_model_takes_is_refused_before_anything_is_paid(stack, models):
    for model, given, field in (
        ("rapidocr", "a text", "input"),
        ("all-minilm-l6-v2", ["one", ""], "input.1"),
        ("gpt2", {"prompt": "a", "max_new_tokens": 5000}, "input.max_new_tokens"),
    ):
        with pytest.raises(Exception, match=f'"field":"{field}"'):
            stack.post("/v1/jobs", {"model": model, "input": given, "maxMinutes": 1, "max_price_per_hour": "1"})
