import pytest

from marketplace.domain.catalogue import CLASSES, UnknownName, class_bytes, find_class, find_region


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


@pytest.mark.parametrize(("name", "found"), [("eu", "eu"), ("EU", "eu"), ("de", "eu"), ("US", "na")])
def test_a_country_stands_for_its_region(name, found):
    assert find_region(name) == found


def test_an_unknown_region_is_refused():
    with pytest.raises(UnknownName):
        find_region("atlantis")


def test_a_class_id_is_padded_to_its_width_on_chain():
    assert class_bytes("a100") == b"a100" + bytes(12)
    with pytest.raises(UnknownName):
        class_bytes("x" * 17)
