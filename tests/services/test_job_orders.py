"""A request is checked whole before anything exists."""

import pytest

from marketplace.errors import DetailCode, Invalid
from marketplace.services.job_orders import OrderFields, read_order


def order(**fields):
    return read_order(OrderFields(**{"image": "busybox", "gpu": "cpu-small", **fields}), decimals=6, image_needed=True)


def codes(**fields):
    with pytest.raises(Invalid) as caught:
        order(**fields)
    return {(d.field, d.code) for d in caught.value.details}


def test_what_is_left_out_is_filled_in():
    found = order()
    assert (found.spec.class_id, found.max_seconds, found.regions, found.queue_ms) == ("cpu-small", 3600, (), 3_600_000)


def test_aliases_and_places_are_resolved():
    found = order(gpu="NVIDIA RTX 4090", region="de", regions=("na", "us"))
    assert (found.spec.class_id, found.regions) == ("rtx4090", ("eu", "na"))


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
        ({"env": {"X": "1" * 70_000}}, ("env", DetailCode.OUT_OF_RANGE)),
        ({"quote": "quote_1", "max_price_per_hour": "1"}, ("quote", DetailCode.CONFLICT)),
        ({"max_price_per_gpu_second": "1", "max_price_per_hour": "1"}, ("max_price_per_hour", DetailCode.CONFLICT)),
        ({"max_price_per_hour": "0"}, ("max_price_per_hour", DetailCode.OUT_OF_RANGE)),
        ({"max_price_per_hour": "x"}, ("max_price_per_hour", DetailCode.NOT_ALLOWED)),
        ({"nodes": ("x",)}, ("nodes", DetailCode.NOT_ALLOWED)),
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


def test_ceilings_round_down():
    assert order(max_price_per_hour="0.0000019").max_price_per_hour == 1
    assert order(max_price_per_gpu_second="0.00002").max_price_per_hour == 72_000
