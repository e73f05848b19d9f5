"""What a caller knows of a deployment, an escrow, a node, and what has been signed about them."""

from dataclasses import dataclass

from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.accounts import EscrowAccount, NodeAccount
from marketplace.chain.addresses import Addresses
from marketplace.chain.ed25519 import SignatureCheck
from marketplace.chain.instructions import ProgramInstruction
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.vouchers import VoucherMessage


@dataclass(frozen=True, slots=True)
class Deployment:
    """One deployment of the program: what all markets on it share.

    genesis_hash: of the cluster, named in every claim and voucher. decimals are the mints'.
    """

    program: Pubkey
    genesis_hash: bytes
    payment_mint: Pubkey
    stake_mint: Pubkey
    payment_decimals: int
    stake_decimals: int

    @property
    def addresses(self) -> Addresses:
        return Addresses(self.program)


@dataclass(frozen=True, slots=True)
class EscrowRef:
    """What finds an escrow's accounts: enough before it exists, too.

    opener: the wallet, or the market that opens under its allowance. rent_payer: who gets the rent back.
    """

    wallet: Pubkey
    opener: Pubkey
    nonce: int
    market: Pubkey
    rent_payer: Pubkey

    @classmethod
    def of(cls, account: EscrowAccount) -> "EscrowRef":
        return cls(account.wallet, account.opener, account.nonce, account.market, account.rent_payer)

    @property
    def under_allowance(self) -> bool:
        return self.opener != self.wallet


@dataclass(frozen=True, slots=True)
class NodeRef:
    """What finds a node's accounts. payout: the operator's payment-token account that the node names."""

    node_key: Pubkey
    operator: Pubkey
    payout: Pubkey
    class_id: bytes

    @classmethod
    def of(cls, account: NodeAccount) -> "NodeRef":
        return cls(account.node_key, account.operator, account.payout, account.class_id)


@dataclass(frozen=True, slots=True)
class EscrowTerms:
    """What an escrow is opened with. class_id: zeros for any class. max_time_ms: over all attempts."""

    nonce: int
    class_id: bytes
    terms_hash: bytes
    ceiling_price: int
    deposit: int
    max_time_ms: int
    attempts_allowed: int


@dataclass(frozen=True, slots=True)
class AllowanceTerms:
    """Caps in base units, price per hour, expiry in milliseconds since the Unix epoch."""

    escrow_cap: int
    day_cap: int
    total_cap: int
    max_price: int
    expires_at_ms: int


@dataclass(frozen=True, slots=True)
class SignedClaim:
    """A claim and the signature of the node's key over it."""

    message: ClaimMessage
    node_key: Pubkey
    signature: Signature


@dataclass(frozen=True, slots=True)
class SignedVoucher:
    """A voucher of both sides.

    counter_key: the attempt's meter, or the wallet. A side whose key submits the transaction needs no
    signature here: it approves by signing that.
    """

    message: VoucherMessage
    node_key: Pubkey
    counter_key: Pubkey
    node_signature: Signature | None = None
    counter_signature: Signature | None = None


@dataclass(frozen=True, slots=True)
class Approved:
    """A call and the signature checks that must stand in the same transaction, at their given indexes."""

    checks: tuple[SignatureCheck, ...]
    call: ProgramInstruction
