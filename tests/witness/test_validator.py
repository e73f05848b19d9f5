"""Anchor's client and kit once more, against a real Agave validator: what they do there they must do on the localnet.

`SOLANA_TEST_VALIDATOR` names the program, or it is on PATH; without one these tests are skipped and say so.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chain.market import program_file
from tests.conformance import chains
from tests.witness.test_clients import (  # noqa: F401 - collected here too, with this module's chain
    played,
    reader,
    test_a_simulation_tells_the_event_beforehand,
    test_anchors_command_reads_the_same_accounts,
    test_everything_was_sent_and_confirmed,
    test_kit_pays_and_reads,
    test_refusals_carry_the_idls_number_and_sentence,
    test_the_delegator_has_half_of_the_stake_back_and_waits_for_the_other,
    test_the_delegator_was_paid_by_the_formula_of_the_documents,
    test_the_market_and_the_protocol_took_what_the_settlements_gave_them,
    test_the_renter_paid_for_the_usage_and_has_the_rest,
    test_we_read_the_same_accounts,
    test_we_read_the_same_events_from_the_same_logs,
    test_what_the_logs_subscription_told_is_what_the_transactions_have,
    test_what_was_changed_and_taken_back_is_as_it_was_told,
)
from tests.witness.values import DOCUMENT

pytestmark = [
    pytest.mark.witness,
    pytest.mark.validator,
    pytest.mark.xdist_group("validator"),  # one at a time: each takes most of a core
    pytest.mark.timeout(300),
    pytest.mark.skipif(
        not chains.VALIDATOR, reason="no solana-test-validator: set SOLANA_TEST_VALIDATOR (docs/localnet.md)"
    ),
]


@pytest.fixture(scope="module")
def limit_s() -> int:
    return 200


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """With slots of 100 ms, and the program at the IDL's address."""
    program = DOCUMENT["address"]
    loaded = ("--bpf-program", program, str(program_file()), "--ticks-per-slot", "16")
    with chains.validator(tmp_path_factory.mktemp("witness-validator"), *loaded) as running:
        # the mint of wrapped SOL is there from genesis
        mint = "So11111111111111111111111111111111111111112"
        yield {"rpc": running.rpc, "ws": running.ws, "program_id": program, "payment_mint": mint}
