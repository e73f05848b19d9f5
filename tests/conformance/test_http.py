"""The same requests to reaver-localnet and to a real Agave validator.

The validator is $SOLANA_TEST_VALIDATOR or `solana-test-validator` on PATH; docs/localnet.md says how to get one.
"""

from pathlib import Path

import pytest

from tests.conformance.cases import BODIES, CASES
from tests.conformance.chains import VALIDATOR
from tests.conformance.comparison import Found
from tests.conformance.differences import DIFFERENCES, Difference

pytestmark = [
    pytest.mark.validator,
    pytest.mark.xdist_group("validator"),
    pytest.mark.timeout(240),
    pytest.mark.skipif(not VALIDATOR, reason="NOT COMPARED: no solana-test-validator (docs/localnet.md)"),
]
NAMES = [*(each.name for each in CASES), *BODIES]


def test_every_case_has_a_name_of_its_own() -> None:
    assert len(NAMES) == len(set(NAMES))


@pytest.mark.parametrize("name", NAMES)
def test_the_localnet_answers_as_agave_does(name: str, found: dict[str, list[Found]]) -> None:
    assert [each for each in found[name] if not any(known.covers(each) for known in DIFFERENCES)] == []


@pytest.mark.parametrize("known", DIFFERENCES, ids=lambda known: known.what)
def test_a_listed_difference_is_still_there(known: Difference, found: dict[str, list[Found]]) -> None:
    assert any(known.covers(each) for several in found.values() for each in several), "strike it off the list"


def test_the_documents_table_lists_these_differences() -> None:
    page = Path(__file__).parents[2] / "docs" / "localnet.md"
    listed = [line for line in page.read_text().splitlines() if line.startswith("| ") and line.count(" | ") == 3]
    assert [each.row() for each in DIFFERENCES] == [line for line in listed if line in {d.row() for d in DIFFERENCES}]
