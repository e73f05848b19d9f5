import pytest

from marketplace.domain.catalogue import (
    CLASSES,
    REGIONS,
    UnknownName,
    class_bytes,
    find_class,
    find_place,
    lies_in,
    region_of,
)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("RTX 4090", "rtx4090"),
        ("A100", "a100"),
        ("cpu-small", "cpu-small"),
        ("Tesla V100", "v100"),
    ],
)
def test_a_class_is_found_under_each_family_s_spelling(name, found):
    assert find_class(name).id == found


def test_an_unknown_class_is_answered_with_the_nearest():
    with pytest.raises(UnknownName) as caught:
        find_class("rtx4900")
    assert "rtx4090" in caught.value.suggestions


def test_an_unknown_class_unlike_any_is_answered_with_all():
    with pytest.raises(UnknownName) as caught:
        find_class("zzzzqqqq!!")
    assert set(caught.value.suggestions) == {c.id for c in CLASSES}


@pytest.mark.parametrize(("name", "found"), [("eu", "eu"), ("EU", "eu"), ("de", "de"), (" US ", "us")])
def test_regions_and_countries_are_places(name, found):
    assert find_place(name) == found


@pytest.mark.parametrize(
    ("place", "wanted", "lies"),
    [
        ("de", {"de"}, True), ("de", {"eu"}, True), ("de", {"fr"}, False), ("de", {"fr", "eu"}, True),
        ("eu", {"eu"}, True), ("eu", {"de"}, False), ("us", {"eu"}, False),
    ],
)  # fmt: skip
def test_a_country_is_no_wider_than_itself(place, wanted, lies):
    assert lies_in(place, wanted) is lies


def test_no_country_has_the_code_of_a_region():
    countries = [country for region in REGIONS.values() for country in region]
    assert len(countries) == len(set(countries))
    assert not set(countries) & set(REGIONS)
    assert {region_of(country) for country in countries} == set(REGIONS)


def test_an_unknown_region_is_refused():
    with pytest.raises(UnknownName):
        find_place("atlantis")


def test_a_class_id_is_padded_to_its_width_on_chain():
    assert class_bytes("a100") == b"a100" + bytes(12)
    with pytest.raises(UnknownName):
        class_bytes("x" * 17)
