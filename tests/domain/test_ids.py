import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.domain.ids import created_at_ms, is_id, new_id

times = st.integers(0, 2**48 - 1)
randoms = st.integers(0, 2**80 - 1)


@given(times, randoms)
def test_an_id_has_its_published_form(now, random):
    text = new_id("job", now, random)
    assert len(text) == 4 + 22
    assert is_id("job", text)
    assert not is_id("node", text)


@given(times, randoms, times, randoms)
def test_ids_sort_as_their_times_do(first, a, second, b):
    if first != second:
        assert (new_id("x", first, a) < new_id("x", second, b)) == (first < second)


def test_text_that_is_no_id_is_told_apart():
    assert not is_id("job", "history")
    assert not is_id("job", "job_" + "0" * 22)
    assert not is_id("job", "job_" + "1" * 23)


@given(times, randoms)
def test_an_id_tells_when_it_was_made(now, random):
    assert created_at_ms(new_id("job", now, random)) == now


def test_what_is_no_id_has_no_time():
    with pytest.raises(ValueError, match="not an id"):
        created_at_ms("history")
