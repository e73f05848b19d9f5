"""Calls of the program, made from what a caller knows: every derivable account is derived here.

Each method returns a typed call (`instructions`), not bytes: the same value that `transactions.inspect` gives
for a transaction somebody hands us, so that "what I would have built" and "what I was given" compare by `==`.
One module per actor; `CallBuilder` has all of them.
"""

from marketplace.chain.builders.admin import AdminCalls
from marketplace.chain.builders.approvals import APPROVED_BY_SUBMITTER, NO_VOUCHER
from marketplace.chain.builders.crank import CrankCalls
from marketplace.chain.builders.delegator import DelegatorCalls
from marketplace.chain.builders.market import MarketCalls
from marketplace.chain.builders.operator import OperatorCalls
from marketplace.chain.builders.refs import (
    AllowanceTerms,
    Approved,
    Deployment,
    EscrowRef,
    EscrowTerms,
    NodeRef,
    SignedClaim,
    SignedVoucher,
)
from marketplace.chain.builders.renter import RenterCalls
from marketplace.chain.builders.settlement import SettlementCalls

__all__ = [
    "APPROVED_BY_SUBMITTER",
    "NO_VOUCHER",
    "AllowanceTerms",
    "Approved",
    "CallBuilder",
    "Deployment",
    "EscrowRef",
    "EscrowTerms",
    "NodeRef",
    "SignedClaim",
    "SignedVoucher",
]


class CallBuilder(SettlementCalls, RenterCalls, OperatorCalls, DelegatorCalls, CrankCalls, MarketCalls, AdminCalls):
    """Calls of all actors on one deployment."""
