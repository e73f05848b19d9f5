"""A request as a run on this machine: the spec is the market's own, and what only a market has is refused by name."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from marketplace.client.errors import NotHere
from marketplace.client.local_runs import local_order
from marketplace.client.requests import JobRequest, Requirements, Retry

PLAIN = JobRequest(image="alpine", gpu="cpu-small")
TAKES_EFFECT = {
    "image", "gpu", "max_minutes", "entrypoint", "command", "env", "name", "requirements", "timeout_seconds", "workdir",
    "secrets", "stop_grace_seconds", "network", "shm_gb", "ulimits", "input",
}  # fmt: skip
BEYOND: dict[str, JobRequest] = {
    "model": JobRequest(model="gpt2"),
    "region": replace(PLAIN, region="eu"),
    "regions": replace(PLAIN, regions=("eu", "na")),
    "priority": replace(PLAIN, priority="high"),
    "max_price_per_hour": replace(PLAIN, max_price_per_hour="1"),
    "max_price_per_gpu_second": replace(PLAIN, max_price_per_gpu_second="1"),
    "queue_seconds": replace(PLAIN, queue_seconds=0),
    "retry": replace(PLAIN, retry=Retry()),
    "nodes": replace(PLAIN, nodes=("node_1",)),
    "exclude_nodes": replace(PLAIN, exclude_nodes=("node_1",)),
    "registry_auth_id": replace(PLAIN, registry_auth_id="reg_1"),
    "labels": replace(PLAIN, labels={"a": "b"}),
    "consumer_id": replace(PLAIN, consumer_id="c"),
    "webhook": replace(PLAIN, webhook="https://example.org"),
    "checkpoint": replace(PLAIN, checkpoint_minutes=5),
    "auto_extend": replace(PLAIN, auto_extend_s=60),
    "output_config": replace(PLAIN, output_format="json"),
    "requirements.min_cuda": replace(PLAIN, requirements=Requirements(min_cuda="12.4")),
    "requirements.min_reputation": replace(PLAIN, requirements=Requirements(min_reputation="0.5")),
}


@pytest.mark.parametrize("name", BEYOND)
def test_what_only_a_market_has_is_refused_by_name(name: str) -> None:
    with pytest.raises(NotHere, match=rf"effect to {name};"):
        local_order(BEYOND[name])


def test_every_field_takes_effect_or_is_refused() -> None:
    """A new field of a request has to be looked at here, too."""
    attributes = {"checkpoint": "checkpoint_minutes", "auto_extend": "auto_extend_s", "output_config": "output_format"}
    refused = {attributes.get(name, name) for name in BEYOND if "." not in name} | {"destination", "credential_id"}
    assert {field.name for field in fields(JobRequest)} == TAKES_EFFECT | refused


def test_a_bucket_is_no_place_of_this_machine() -> None:
    for request in (replace(PLAIN, destination="s3://bucket/a"), replace(PLAIN, credential_id="cred_1")):
        with pytest.raises(NotHere, match="output_config"):
            local_order(request)


def test_several_are_named_at_once() -> None:
    with pytest.raises(NotHere, match="region, priority"):
        local_order(replace(PLAIN, region="eu", priority="high"))


def test_the_spec_is_the_one_that_an_escrow_would_stand_for() -> None:
    request = replace(PLAIN, command=("a",), secrets={"TOKEN": "hidden"}, input={"a": 1})
    order = local_order(request)
    assert order.spec.spec_hash() == request.spec().spec_hash()
    assert order.spec.secrets == {"TOKEN": "hidden"}
    assert order.input_text == '{"a":1}'
    assert "hidden" not in repr(order)


def test_of_several_classes_the_first_that_will_do_is_taken() -> None:
    assert (
        local_order(replace(PLAIN, gpu="h100", requirements=Requirements(gpu_types=("v100",)))).spec.class_id == "h100"
    )
    assert local_order(replace(PLAIN, gpu="any", requirements=Requirements(min_vram_gb=80))).spec.class_id == "a100"


def test_a_file_at_the_market_is_not_here() -> None:
    with pytest.raises(NotHere, match="--upload"):
        local_order(replace(PLAIN, input="file_" + "1" * 22))


def test_paths_are_those_of_where_it_was_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    order = local_order(PLAIN, input_file=Path("in"), outputs=Path("out"))
    assert (order.input_file, order.outputs) == (str(tmp_path / "in"), str(tmp_path / "out"))
