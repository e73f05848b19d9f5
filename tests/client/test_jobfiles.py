"""Job files: read by what a field is; every problem has a line; secrets stand in none."""

import re
from pathlib import Path

import pytest

from marketplace.client.jobfiles import (
    FIELDS,
    OUTPUT_CONFIG,
    REQUIREMENTS,
    RETRY,
    BadJobFile,
    job_file_template,
    read_job_file,
)
from marketplace.client.requests import JobRequest, Requirements, Retry

PAGE = Path(__file__).parents[2] / "docs" / "jobfile.md"


def read(text: str, folder: Path = Path(), **environment: str) -> JobRequest:
    return read_job_file(text, file="job.yaml", environment=environment, folder=folder)


def problems(text: str, folder: Path = Path(), **environment: str) -> list[str]:
    with pytest.raises(BadJobFile) as caught:
        read(text, folder, **environment)
    return [problem.text("job.yaml") for problem in caught.value.problems]


def test_values_are_what_the_field_is() -> None:
    job = read(
        """
image: alpine
gpu: cpu
command: sh -c 'echo "a b"'
env: {PORT: 8080, DEBUG: on, ZIP: 0123, NO: no, EMPTY: "", DATE: 2026-01-01}
requirements: {min_cuda: 12.10, gpu_count: 2, min_reputation: .5e0}
""".replace(".5e0", "0.5")
    )
    assert job.command == ("sh", "-c", 'echo "a b"')
    assert job.env == {"PORT": "8080", "DEBUG": "on", "ZIP": "0123", "NO": "no", "EMPTY": "", "DATE": "2026-01-01"}
    assert job.requirements == Requirements(min_cuda="12.10", gpu_count=2, min_reputation="0.5")


def test_the_word_on_is_a_name() -> None:
    assert read("image: a\ngpu: cpu\nretry:\n  on: [node_lost]\n  exit_codes: [75]\n").retry == Retry(
        on=("node_lost",), exit_codes=(75,)
    )


def test_an_input_is_text_or_json() -> None:
    assert read("input: 0123\n").input == "0123"
    assert read("input: {a: [1, 0.5, yes, null], b: x}\n").input == {"a": [1, 0.5, True, None], "b": "x"}
    assert problems("input: {a: 2026-01-01}\n")[0].startswith("job.yaml:1:8: input: is not JSON")
    assert problems("input: &a [*a]\n")[0].startswith("job.yaml:1:8: input: is not JSON")


def test_secrets_come_from_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("s3cret\n")
    assert read("secrets: [A]", A="x").secrets == {"A": "x"}
    job = read("secrets:\n  A: {env: B}\n  C: {file: token}\n", tmp_path, B="y")
    assert job.secrets == {"A": "y", "C": "s3cret"}


BAD = {
    "a typing error": (
        "image: a\nmax_minutes: 5\n", "2:1: max_minutes: is no field of a job; did you mean maxMinutes?"),
    "inside": ("requirements:\n  min_vram: 5\n", "2:3: requirements.min_vram: is no field of a job; did you mean min_vram_gb?"),
    "a number": ("maxMinutes: soon\n", "1:13: maxMinutes: is 'soon', must be a whole number"),
    "a range": ("maxMinutes: 2000\n", "1:13: maxMinutes: is 2000, must lie between 1 and 1440"),
    "a choice": ("priority: asap\n", "1:11: priority: is 'asap', must be one of low, normal, high, urgent"),
    "an amount": ("max_price_per_hour: 1,5\n", "1:21: max_price_per_hour: is '1,5', must be a number such as 0.05"),
    "a class": ("gpu: h10\n", "1:6: gpu: the catalogue has no 'h10'; nearest: h100, v100"),
    "a place": ("regions: [eu, atlantis]\n", "1:10: regions: the catalogue has no 'atlantis'; nearest: as"),
    "twice": ("image: a\nimage: b\n", "2:1: image: stands here again; the first is in line 1"),
    "nothing": ("image:\n", '1:7: image: has no value; write "" for an empty text, or leave the field out'),
    "a list": ("image: [a]\n", "1:8: image: must be one value, not a list or a mapping"),
    "no list": ("nodes: node_1\n", "1:8: nodes: must be a list, such as [a, b]"),
    "no mapping": ("env: [A=b]\n", "1:6: env: must be `name: value` lines"),
    "no words": ("command: it's\n", "1:10: command: can't be split into words (No closing quotation); write a list: [a, b]"),
    "not YAML": ("image: [a\n", "2:1: is not YAML: expected ',' or ']', but got '<stream end>'"),
    "no file": ("just text\n", "1:1: must be `name: value` lines"),
    "empty": ("# nothing\n", "1:1: is empty; `reaver init` writes one to begin with"),
    "two documents": ("image: a\n---\nimage: b\n", "2:1: is not YAML: but found another document"),
    "a secret itself": ("secrets: {A: hunter2}\n", "1:14: secrets.A: stands in no job file; write {env: VARIABLE} or {file: PATH}"),
    "an unset secret": ("secrets: [A]\n", "1:11: secrets.A: the environment variable A is not set"),
    "a lost secret": ("secrets: {A: {file: nowhere}}\n", "1:15: secrets.A: nowhere can't be read: No such file or directory"),
    "a secret from nowhere": ("secrets: {A: {vault: x}}\n", "1:14: secrets.A: must be {env: VARIABLE} or {file: PATH}"),
    "a tab": ("image: a\n\tgpu: b\n", "2:1: is not YAML: found character '\\t' that cannot start any token"),
    "an exit code": ("retry: {exit_codes: [0]}\n", "1:22: retry.exit_codes[0]: is 0, must lie between 1 and 255"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD.keys())
def test_a_problem_has_its_line_and_a_way_out(tmp_path: Path, text: str, said: str) -> None:
    assert problems(text, tmp_path) == [f"job.yaml:{said}"]


def test_all_problems_are_said_at_once_in_order() -> None:
    lines = [problem.split(":")[1] for problem in problems("gpu: h10\nmaxMinutes: x\nfoo: 1\nimage:\n")]
    assert lines == ["1", "2", "3", "4"]


def test_an_alias_that_holds_itself_ends() -> None:
    assert problems("env: &a {A: *a}\n") == ["job.yaml:1:6: env.A: must be one value, not a list or a mapping"]


def test_a_large_file_is_not_read() -> None:
    assert problems("# " + "x" * (1 << 20)) == ["job.yaml:1:1: is larger than 1 MiB"]


def test_the_template_is_a_job_and_so_is_what_it_comments_out() -> None:
    text = job_file_template(None, None)
    job = read(text)
    assert job == JobRequest(
        image="docker.io/library/alpine:3.20", gpu="cpu-small", max_minutes=10,
        command=("sh", "-c", "echo hello from $HOSTNAME"),
    )  # fmt: skip
    whole = read(re.sub(r"(?m)^# (?=[ a-zA-Z_]+:)(?!what|instead)", "", text.split("is optional.", 1)[1]), HF_TOKEN="t")
    assert {name for name in FIELDS if f"\n# {name}:" in text} == set(whole.body()) - {"image", "gpu", "command"}
    assert set(whole.requirements.body()) == set(REQUIREMENTS)
    assert whole.retry is not None
    assert set(whole.retry.body()) == set(RETRY)
    assert set(whole.body()["output_config"]) == set(OUTPUT_CONFIG)  # type: ignore[call-overload]


def test_the_template_takes_any_text() -> None:
    assert read(job_file_template('a: "b" #c', "cpu")).image == 'a: "b" #c'


def test_the_page_lists_every_field() -> None:
    text = PAGE.read_text()
    for name, field in (*FIELDS.items(), *REQUIREMENTS.items(), *RETRY.items(), *OUTPUT_CONFIG.items()):
        assert f"| `{name}` | `{field.sample}` | {field.about} |" in text, name


def test_every_example_of_the_page_is_a_job() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        assert read(block, HF_TOKEN="t").spec()
