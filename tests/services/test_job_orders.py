"""A request is checked whole before anything exists."""

import pytest

from marketplace.domain.reasons import Reason
from marketplace.errors import DetailCode, Invalid, TooLarge
from marketplace.services.job_orders import OrderFields, RetryFields, read_order


def order(**fields):
    return read_order(OrderFields(**{"image": "busybox", "gpu": "cpu-small", **fields}), decimals=6, image_needed=True)


def codes(**fields):
    with pytest.raises(Invalid) as caught:
        order(**fields)
    return {(d.field, d.code) for d in caught.value.details}


def test_what_is_left_out_is_filled_in():
    found = order()
    assert (found.spec.class_id, found.max_seconds, found.regions, found.queue_ms) == ("cpu-small", 3600, (), None)


def test_aliases_and_places_are_resolved():
    found = order(gpu="NVIDIA RTX 4090", region="de", regions=("na", "us"))
    assert (found.spec.class_id, found.regions) == ("rtx4090", ("de", "na", "us"))


def test_an_unknown_class_is_refused_with_suggestions():
    with pytest.raises(Invalid) as caught:
        order(gpu="rtx409")
    assert caught.value.details[0].code is DetailCode.UNKNOWN_GPU
    assert "rtx4090" in caught.value.details[0].suggestions


@pytest.mark.parametrize(
    "image",
    [
        "Busybox", "a//b", "http://x/y", "x:", "x@sha256:1", "-x", "x y", "x\n", "../x", "a/b:" + "t" * 129, "x" * 600,
        "UPPER/x", "localhost:99999/x", "localhost:0/x", "a/" * 130 + "b",
    ],
)  # fmt: skip
def test_an_invalid_image_reference_is_refused(image):
    assert ("image", DetailCode.NOT_ALLOWED) in codes(image=image)


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "Registry.Example/x",
        "UPPER:5000/x",
        "docker.io/org/job:latest",
        "127.0.0.1:5000/a/b@sha256:" + "0" * 64,
        "a_b/c__d/e-f:1.2",
    ],
)
def test_a_valid_image_reference_is_taken(image):
    assert order(image=image).spec.image == image


def test_everything_wrong_is_said_at_once():
    found = codes(image="A", gpu="nothing-like-it", region="mars", timeout_seconds=0, priority="now", env={"1x": ""})
    assert {name for name, _ in found} == {"image", "gpu", "region", "timeout_seconds", "priority", "env"}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_minutes": 2, "timeout_seconds": 60}, ("maxMinutes", DetailCode.CONFLICT)),
        ({"gpu": "a100", "gpu_type": "h100"}, ("gpu", DetailCode.CONFLICT)),
        ({"gpu": None}, ("gpu", DetailCode.REQUIRED)),
        ({"image": None}, ("image", DetailCode.REQUIRED)),
        ({"timeout_seconds": 86_401}, ("timeout_seconds", DetailCode.OUT_OF_RANGE)),
        ({"max_minutes": 0}, ("maxMinutes", DetailCode.OUT_OF_RANGE)),
        ({"env": {"REAVER_X": "1"}}, ("env", DetailCode.NOT_ALLOWED)),
        ({"quote": "quote_1", "max_price_per_hour": "1"}, ("quote", DetailCode.CONFLICT)),
        ({"max_price_per_gpu_second": "1", "max_price_per_hour": "1"}, ("max_price_per_hour", DetailCode.CONFLICT)),
        ({"max_price_per_hour": "0"}, ("max_price_per_hour", DetailCode.OUT_OF_RANGE)),
        ({"max_price_per_hour": "x"}, ("max_price_per_hour", DetailCode.NOT_ALLOWED)),
        ({"nodes": ("x",)}, ("nodes", DetailCode.NOT_ALLOWED)),
        ({"min_ram_gb": 3}, ("requirements.min_ram_gb", DetailCode.UNSATISFIABLE)),
        ({"gpu": "any", "min_vram_gb": 81}, ("requirements.min_vram_gb", DetailCode.UNSATISFIABLE)),
        ({"gpu": "any", "gpu_types": ("v100",)}, ("gpu", DetailCode.CONFLICT)),
        ({"gpu_types": ("v1000",)}, ("requirements.gpu_types", DetailCode.UNKNOWN_GPU)),
        ({"min_cuda": "twelve"}, ("requirements.min_cuda", DetailCode.NOT_ALLOWED)),
        ({"min_reputation": "1.5"}, ("requirements.min_reputation", DetailCode.OUT_OF_RANGE)),
        ({"retry": RetryFields(3, ("completed",))}, ("retry.on", DetailCode.NOT_ALLOWED)),
        ({"retry": RetryFields(3, None, tuple(range(1, 40)))}, ("retry.exit_codes", DetailCode.OUT_OF_RANGE)),
        ({"shm_mb": 2_001}, ("shm_gb", DetailCode.OUT_OF_RANGE)),
        ({"ulimits": {"nproc": 1}}, ("ulimits", DetailCode.NOT_ALLOWED)),
        ({"ulimits": {"nofile": 1}}, ("ulimits.nofile", DetailCode.OUT_OF_RANGE)),
        ({"secrets": {"1x": ""}}, ("secrets", DetailCode.NOT_ALLOWED)),
        ({"secrets": {"X": "a\0b"}}, ("secrets", DetailCode.NOT_ALLOWED)),
        ({"secrets": {"X": ""}, "env": {"X": ""}}, ("secrets", DetailCode.CONFLICT)),
        ({"workdir": "tmp"}, ("workdir", DetailCode.NOT_ALLOWED)),
        ({"workdir": ""}, ("workdir", DetailCode.NOT_ALLOWED)),
        (
            {"max_price_per_hour": "18446744073709.551615", "max_minutes": 1440},
            ("max_price_per_hour", DetailCode.OUT_OF_RANGE),
        ),
    ],
)
def test_each_refusal_names_its_field(fields, expected):
    assert expected in codes(**fields)


@pytest.mark.parametrize(
    ("fields", "limit"),
    [
        ({"env": {"X": "1" * 65_536}}, 65_536),
        ({"secrets": {"X": "1" * 40_000}, "env": {"Y": "1" * 40_000}}, 65_536),
        ({"input": "1" * 1_048_577}, 1_048_576),
    ],
)
def test_what_is_too_large_for_a_job_is_no_matter_of_its_fields(fields, limit):
    with pytest.raises(TooLarge) as caught:
        order(**fields)
    assert caught.value.extra["limit_bytes"] == limit


def test_what_just_fits_is_taken():
    assert order(env={"X": "1" * 65_535}, input="1" * 1_048_576).spec.env["X"]


def test_ceilings_round_down():
    assert order(max_price_per_hour="0.0000019").max_price_per_hour == 1
    assert order(max_price_per_gpu_second="0.00002").max_price_per_hour == 72_000


def test_fallback_classes_keep_their_order_and_lose_those_that_are_too_small():
    found = order(gpu="v100", gpu_types=("h100", "a100", "v100"), min_vram_gb=24)
    assert (found.tiers, found.spec.class_id) == ((("h100",), ("a100",)), "any")
    assert order(gpu=None, gpu_types=("a100",)).spec.class_id == "a100"
    assert order(gpu="any", min_vram_gb=80).tiers == (("a100", "h100"),)


def test_what_is_too_much_for_a_class_names_those_that_have_it():
    with pytest.raises(Invalid) as caught:
        order(gpu="v100", min_vram_gb=24, min_ram_gb=64)
    assert {d.field: d.suggestions for d in caught.value.details} == {
        "requirements.min_ram_gb": (), "requirements.min_vram_gb": (),
    }  # fmt: skip
    with pytest.raises(Invalid) as caught:
        order(min_ram_gb=32)
    assert caught.value.details[0].suggestions == ("a100", "h100")


def test_what_is_not_asked_for_is_no_part_of_the_terms():
    """A client of before these fields were there hashes the same."""
    plain = order()
    assert plain.spec.spec_hash() == order(consumer_id="team").spec.spec_hash()
    for fields in ({"retry": RetryFields(3)}, {"shm_mb": 1}, {"secrets": {"A": "1"}}, {"min_cuda": "12.1"}):
        assert order(**fields).spec.spec_hash() != plain.spec.spec_hash()
    assert order(secrets={"A": "1"}).spec.spec_hash() == order(secrets={"A": "2"}).spec.spec_hash()
    assert "planted" not in repr(order(secrets={"A": "planted"}))


def test_retries_are_what_was_asked_for():
    found = order(retry=RetryFields(5, ("node_lost",), (3, 75)))
    assert (found.retry.max_attempts, found.retry.on) == (5, {Reason.NODE_LOST})
    assert found.retry.leaves_open(4, Reason.APP_ERROR, 75)
    assert not found.retry.leaves_open(5, Reason.APP_ERROR, 75)
    assert not found.retry.leaves_open(1, Reason.PULL_FAILED, None)
    assert found.retry.rules_out(Reason.PULL_FAILED, None)
    assert not found.retry.rules_out(Reason.MARKET_ERROR, None)
