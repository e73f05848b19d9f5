"""Keys that sign without a person: each signs only the calls on its own list, and never for a high fee.

The list is checked on the message itself, read back from its bytes just before the signature, so that a
mistake (or an intruder) above this line can't have a market's key sign anything else. Source: design page
stack.md, section 10, line 11.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.ed25519 import SignatureCheck
from marketplace.chain.errors import UnsupportedTransaction
from marketplace.chain.instructions import (
    Assign,
    CancelEscrow,
    CloseContest,
    CloseEpoch,
    Contest,
    Distribute,
    ExtendEscrow,
    OpenEscrow,
    ProgramInstruction,
    ProveOverclaim,
    Reap,
    RegisterWeight,
    ReleaseNode,
    Settle,
    SweepProtocolFees,
)
from marketplace.chain.program import AnchorCodec
from marketplace.chain.transactions import SignedTransaction, UnsignedTransaction, inspect

MATCHER_CALLS: Final = frozenset({OpenEscrow.name, ExtendEscrow.name, Assign.name, ReleaseNode.name, CancelEscrow.name})
# What anybody may do: nothing in it can be turned to the signer's account.
CRANK_CALLS: Final = frozenset(
    {
        RegisterWeight.name,
        CloseEpoch.name,
        Distribute.name,
        CloseContest.name,
        Reap.name,
        SweepProtocolFees.name,
    }
)
METER_CALLS: Final = frozenset({Settle.name, ReleaseNode.name, Contest.name, ProveOverclaim.name}) | CRANK_CALLS
# Chosen: twenty times the base fee of the largest transaction here (four signatures).
MAX_FEE_LAMPORTS: Final = 400_000


@dataclass(frozen=True, slots=True)
class HotKey:
    """A keypair and what it may be used for. Showing it shows the public key only."""

    _keypair: Keypair
    calls: frozenset[str]
    codec: AnchorCodec
    max_fee_lamports: int = MAX_FEE_LAMPORTS

    def __repr__(self) -> str:
        return f"HotKey({self.pubkey()}, {sorted(self.calls)})"

    def pubkey(self) -> Pubkey:
        return self._keypair.pubkey()

    def sign(self, unsigned: UnsignedTransaction, others: Iterable[Keypair] = ()) -> SignedTransaction:
        """Sign a transaction that holds nothing but this key's calls and their signature checks.

        Raises UnsupportedTransaction for any other step or a fee above the bound.
        """
        self._require_allowed(unsigned)
        return unsigned.sign([self._keypair, *others])

    def partially_sign(self, unsigned: UnsignedTransaction) -> bytes:
        """As `sign`, for a transaction that others sign later."""
        self._require_allowed(unsigned)
        return unsigned.partially_signed([self._keypair])

    def sign_message(self, message: bytes) -> Signature:
        """Sign a claim or a voucher: 48 bytes of our own domains, which no transaction can start with."""
        if len(message) != 48 or not message.startswith((b"reaver:claim:v01", b"reaver:voucher:1")):
            raise UnsupportedTransaction("only claims and vouchers are signed as messages")
        return self._keypair.sign_message(message)

    def _require_allowed(self, unsigned: UnsignedTransaction) -> None:
        read = inspect(unsigned.base64(), self.codec)
        for step in read.steps:
            if isinstance(step, SignatureCheck):
                continue
            name = step.name if isinstance(step, ProgramInstruction) else type(step).__name__
            if name not in self.calls:
                raise UnsupportedTransaction(f"the key {self.pubkey()} does not sign {name}")
        if read.payer == self.pubkey() and read.fee_lamports > self.max_fee_lamports:
            raise UnsupportedTransaction(f"a fee of {read.fee_lamports} lamports is above this key's bound")
