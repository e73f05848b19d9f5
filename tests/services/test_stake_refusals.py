"""The program's refusals of stake, told in the market's own errors."""

import pytest

from marketplace.chain.program import AnchorCodec
from marketplace.errors import Code, TransactionRejected
from marketplace.services.stake_refusals import refusal
from tests.services.test_chain_events import NULL

EXPECTED = {
    "PoolDead": Code.POOL_DEAD,
    "NothingOwed": Code.NOTHING_TO_CLAIM,
    "SharesInsufficient": Code.INSUFFICIENT_STAKE,
    "CommissionStepTooLarge": Code.COMMISSION_STEP,
    "WrongEpoch": Code.STALE_EPOCH,
    "EpochWindowClosed": Code.STALE_EPOCH,
    "EpochOver": Code.STALE_EPOCH,
    "EpochTooEarly": Code.TOO_EARLY,
    "EpochNotClosed": Code.TOO_EARLY,
    "EpochNotOver": Code.TOO_EARLY,
    "NodeRetired": Code.CONFLICT,
    "OperatorPosition": Code.CONFLICT,
    "AmountZero": Code.VALIDATION_ERROR,
    "TicketLocked": Code.TOO_EARLY,
    "Paused": Code.CONFLICT,
    "NotRegistered": Code.CONFLICT,
    "AlreadyDistributed": Code.CONFLICT,
    "WrongTicket": Code.NOT_FOUND,
    "WrongMint": Code.TRANSACTION_REJECTED,
}


@pytest.mark.parametrize("name", EXPECTED)
def test_an_error_of_the_program_has_its_own_here(name):
    numbers = {AnchorCodec(NULL).error_name(number): number for number in range(6000, 6300)}
    assert name in numbers
    rejected = TransactionRejected("failed", extra={"program_error": {"number": numbers[name], "name": name}})
    assert refusal(rejected).code is EXPECTED[name]


@pytest.mark.parametrize("extra", [{}, {"program_error": None}, {"program_error": {"number": 1}}])
def test_what_names_no_error_of_the_program_stays_what_it_is(extra):
    rejected = TransactionRejected("failed", extra=extra)
    assert refusal(rejected) is rejected
