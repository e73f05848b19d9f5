"""What running a transaction gives: for the journal, for getTransaction and for simulateTransaction."""

from dataclasses import dataclass
from typing import Final

from solders.account import Account
from solders.message import Message, MessageV0
from solders.pubkey import Pubkey
from solders.signature import Signature
from solders.transaction import VersionedTransaction
from solders.transaction_metadata import TransactionMetadata

from marketplace.localnet.outcome import ErrorJson
from marketplace.localnet.tokens import TokenHolding

# Specified: SIMD-186, the largest table's 256 addresses and its header.
_LOOKUP_TABLE_BYTES: Final = 8_248


@dataclass(frozen=True, slots=True)
class TokenBalance:
    """A token account of the transaction, by its place in the account list."""

    index: int
    holding: TokenHolding
    decimals: int


@dataclass(frozen=True, slots=True)
class Keys:
    """Every account a transaction names: its own, then the looked-up writable, then the looked-up read-only.

    tables: how many lookup tables it uses.
    """

    static: tuple[Pubkey, ...]
    loaded_writable: tuple[Pubkey, ...]
    loaded_readonly: tuple[Pubkey, ...]
    writable: frozenset[Pubkey]
    tables: int = 0

    @property
    def all(self) -> tuple[Pubkey, ...]:
        return self.static + self.loaded_writable + self.loaded_readonly


@dataclass(frozen=True, slots=True)
class Execution:
    """One run of a transaction against the present state, kept or thrown away.

    charged: whether it got so far that its fee is due. accounts_after is aligned with keys.all.
    """

    keys: Keys
    error: ErrorJson | None
    fee: int
    charged: bool
    metadata: TransactionMetadata | None
    accounts_before: tuple[Account | None, ...]
    accounts_after: tuple[Account | None, ...]
    tokens_before: tuple[TokenBalance, ...]
    tokens_after: tuple[TokenBalance, ...]

    @property
    def loaded_bytes(self) -> int:
        """Size of what was loaded, as Agave counts it (SIMD-186): 64 bytes an account and its data, and its tables."""
        accounts = sum(64 + len(account.data) for account in self.accounts_before if account is not None)
        return accounts + _LOOKUP_TABLE_BYTES * self.keys.tables


@dataclass(frozen=True, slots=True)
class Landed:
    """A transaction that is part of the chain, successful or not."""

    signature: Signature
    transaction: VersionedTransaction
    message_hash: bytes
    slot: int
    unix_time: int
    execution: Execution

    @property
    def message(self) -> Message | MessageV0:
        return self.transaction.message

    def changed(self) -> dict[Pubkey, Account | None]:
        """Accounts that the transaction left different, with their new state."""
        run = self.execution
        return {
            address: after
            for address, before, after in zip(run.keys.all, run.accounts_before, run.accounts_after, strict=True)
            if before != after
        }


@dataclass(frozen=True, slots=True)
class Dropped:
    """A transaction that never became part of the chain, and why."""

    error: ErrorJson
