import pytest
from pydantic import ValidationError

from marketplace.protocol.digests import LogDigest, voucher_digest
from marketplace.protocol.terms import (
    FIELDS,
    SPEC_VERSION,
    JobInput,
    JobSpec,
    RegistryLogin,
    RetryTerms,
    canonical_json,
    terms_hash,
)


def spec(**changes):
    return JobSpec(**{"image": "busybox", "class_id": "cpu-small", "limit_ms": 60_000, **changes})


def test_the_hash_follows_every_field_but_the_digest():
    base = spec()
    assert spec(image_digest="sha256:" + "0" * 64).spec_hash() == base.spec_hash()
    for change in (
        {"command": ("a",)},
        {"env": {"A": "b"}},
        {"limit_ms": 60_001},
        {"gpu_count": 2},
        {"network": "none"},
    ):
        assert spec(**change).spec_hash() != base.spec_hash()


def test_the_key_is_part_of_the_terms():
    assert terms_hash(spec().spec_hash(), "one") != terms_hash(spec().spec_hash(), "two")


def test_a_spec_survives_the_wire_and_refuses_the_unknown():
    base = spec(command=("echo", "ä"), env={"B": "2", "A": "1"})
    assert JobSpec.model_validate_json(base.model_dump_json()) == base
    with pytest.raises(ValidationError):
        JobSpec.model_validate({**base.model_dump(), "extra": 1})


def test_every_field_has_the_version_that_brought_it():
    named = [name for names in FIELDS.values() for name in names]
    assert sorted(named) == sorted(JobSpec.model_fields), "a new field is a new version, or older nodes refuse the job"
    assert sorted(FIELDS) == list(range(1, SPEC_VERSION + 1))
    for version, names in FIELDS.items():
        for name in names if version > 1 else ():
            assert JobSpec.model_fields[name].default is None, f"{name} would be sent where it isn't asked for"
    # and what lies inside of those fields: a new member is a new version as well
    assert set(RetryTerms.model_fields) == {"max_attempts", "exit_codes", "extend"}
    assert set(JobInput.model_fields) == {"kind", "name", "size", "sha256", "file_id", "url"}
    assert set(RegistryLogin.model_fields) == {"username", "password", "registry"}


def test_a_spec_needs_the_version_of_what_it_asks_for_and_no_more():
    assert spec(command=("x",), env={"A": "b"}, network="none", disk_gb=5).version == 1
    assert [spec(**{name: value}).version for name, value in (("shm_mb", 64), ("checkpoint_minutes", 5))] == [2, 2]
    sent = spec(command=("x",)).model_dump(mode="json", exclude_none=True)
    assert set(sent) <= FIELDS[1], "an older node would refuse the name of a field alone"


def test_canonical_json_does_not_depend_on_order_and_refuses_nan():
    assert canonical_json({"b": 1, "a": "ä"}) == canonical_json({"a": "ä", "b": 1})
    with pytest.raises(ValueError, match="JSON"):
        canonical_json({"a": float("nan")})


def test_lines_that_join_differently_have_different_digests():
    one, other = LogDigest(), LogDigest()
    one.feed(1, b"ab")
    one.feed(1, b"c")
    other.feed(1, b"a")
    other.feed(1, b"bc")
    assert one.value() != other.value()
    assert voucher_digest(one.value()) != voucher_digest(one.value(), b"manifest")
