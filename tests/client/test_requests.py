"""The client builds the spec from the request as the market does: else a wallet would sign for other work."""

import pytest

from marketplace.api.native import job_bodies
from marketplace.client.requests import JobRequest, Requirements, Retry
from marketplace.domain.catalogue import UnknownName
from marketplace.services.job_orders import read_order

JOBS = {
    "plain": JobRequest(image="alpine", gpu="cpu-small"),
    "alias, place, minutes": JobRequest(image="alpine", gpu="Tesla V100", region="de", max_minutes=10),
    "regions and seconds": JobRequest(image="a", gpu="cpu", regions=("na", "eu", "us"), timeout_seconds=90),
    "anywhere": JobRequest(image="a", gpu="cpu", region="Any"),
    "any class": JobRequest(image="a", gpu="any"),
    "any class that is large": JobRequest(image="a", gpu="any", requirements=Requirements(min_vram_gb=24, gpu_count=2)),
    "fallbacks": JobRequest(image="a", gpu="a100", requirements=Requirements(gpu_types=("h100", "A100"))),
    "one of the fallbacks can": JobRequest(image="a", requirements=Requirements(gpu_types=("v100", "h100"), min_vram_gb=40)),
    "requirements": JobRequest(
        image="a",
        requirements=Requirements(
            gpu_type="h100", gpu_count=4, disk_gb=50, min_vram_gb=80, min_ram_gb=64, min_vcpu=16, min_cuda="12.4",
            min_reputation="0.9",
        ),
    ),
    "whole reputation": JobRequest(image="a", gpu="cpu", requirements=Requirements(min_reputation="1")),
    "process": JobRequest(
        image="a", gpu="cpu", entrypoint=("sh", "-c"), command=("ls", "ü"), workdir="/w", env={"A": "b=c"},
        secrets={"T": "s", "B": "x"}, network="none", stop_grace_seconds=30, shm_gb="0.0015",
        ulimits={"nofile": 4096, "memlock": 0}, registry_auth_id="reg_1",
    ),
    "retry": JobRequest(image="a", gpu="cpu", retry=Retry(max_attempts=5, on=("node_lost",), exit_codes=(7, 3, 7))),
    "retry, defaults": JobRequest(image="a", gpu="cpu", retry=Retry(exit_codes=(1,))),
    "text input": JobRequest(image="a", gpu="cpu", input="a text ü", output_format="archive"),
    "bucket": JobRequest(image="a", gpu="cpu", destination="s3://bucket/p", credential_id="cred_1", checkpoint_minutes=5),
    "JSON input": JobRequest(image="a", gpu="cpu", input={"b": [1, None, True, 0.5], "a": "x"}),
    "input by URL": JobRequest(image="a", gpu="cpu", input="https://example.org/x"),
    "retry, whole time": JobRequest(image="a", gpu="cpu", retry=Retry(extend=True)),
    "what is no part of the spec": JobRequest(
        image="a", gpu="cpu", name="n", priority="high", labels={"k": "v"}, consumer_id="c", queue_seconds=0,
        nodes=("node_1",), exclude_nodes=("node_2",), max_price_per_gpu_second="0.001",
        webhook="https://example.org/hook", auto_extend_s=600,
    ),
}  # fmt: skip


@pytest.mark.parametrize("job", JOBS.values(), ids=JOBS.keys())
def test_the_market_hashes_the_same_spec(job: JobRequest) -> None:
    read = job_bodies.JobRequest.model_validate(job.body())
    order = read_order(read.fields(), decimals=6, image_needed=True)
    assert job.spec() == order.spec
    assert job.spec().spec_hash() == order.spec.spec_hash()
    assert (job.limit_s(), job.attempts()) == (order.max_seconds, order.retry.max_attempts)


def test_every_field_of_the_body_can_be_asked_for() -> None:
    asked = {name for job in JOBS.values() for name in job.body()}
    known = {field.alias or name for name, field in job_bodies.JobRequest.model_fields.items()}
    # A quote is taken by the client itself. A model stands for a command that the market doesn't publish, so nobody
    # could build the spec that the wallet signs for.
    assert known - asked - {"quote", "quote_id", "max_price_per_hour", "model"} == set()
    needs = {name for job in JOBS.values() for name in job.requirements.body()}
    assert needs == set(job_bodies.Requirements.model_fields)


def test_secrets_are_in_no_representation() -> None:
    assert "hunter2" not in repr(JobRequest(image="a", gpu="cpu", secrets={"T": "hunter2"}))


@pytest.mark.parametrize(
    ("job", "kind"),
    [
        (JobRequest(gpu="cpu"), ValueError),
        (JobRequest(image="a"), ValueError),
        (JobRequest(image="a", gpu="h1000"), UnknownName),
        (JobRequest(image="a", gpu="cpu", region="atlantis"), UnknownName),
        (JobRequest(image="a", gpu="cpu", requirements=Requirements(min_vram_gb=1)), ValueError),
    ],
)
def test_what_stands_for_no_work_has_no_spec(job: JobRequest, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        job.spec()
