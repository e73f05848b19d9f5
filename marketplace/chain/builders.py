"""Calls of the program, made from what a caller knows: every derivable account is derived here.

Each method returns a typed call (`instructions`), not bytes: the same value that `transactions.inspect` gives
for a transaction somebody hands us, so that "what I would have built" and "what I was given" compare by `==`.
"""

from dataclasses import dataclass
from typing import Final

from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain import instructions as calls
from marketplace.chain.accounts import EscrowAccount, NodeAccount, Params
from marketplace.chain.addresses import (
    INSTRUCTIONS_SYSVAR,
    SYSTEM_PROGRAM,
    TOKEN_PROGRAM,
    Addresses,
    associated_token_address,
)
from marketplace.chain.ed25519 import SignatureCheck
from marketplace.chain.instructions import VoucherArgs
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.vouchers import VoucherMessage

# Specified (programs/reaver_market/src/messages.rs, SUBMITTER): the submitter of the transaction approves.
APPROVED_BY_SUBMITTER: Final = 255
NO_VOUCHER: Final = VoucherArgs(
    sequence=0,
    started_at=0,
    at=0,
    billed=0,
    state=0,
    reason=0,
    digest=bytes(32),
    node_approval=APPROVED_BY_SUBMITTER,
    counter_approval=APPROVED_BY_SUBMITTER,
)


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
    call: calls.ProgramInstruction


class CallBuilder:
    """Calls of one deployment. Raises nothing: wrong values are refused by the program, with their names."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.addresses = deployment.addresses

    # renters

    def open_vault(self, payer: Pubkey, wallet: Pubkey) -> calls.OpenVault:
        vault = self.addresses.vault(wallet)
        return calls.OpenVault(
            calls.OpenVaultAccounts(
                payer=payer,
                wallet=wallet,
                config=self.addresses.config(),
                vault=vault,
                vault_tokens=self.addresses.vault_tokens(vault),
                payment_mint=self.deployment.payment_mint,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            )
        )

    def deposit(self, depositor: Pubkey, wallet: Pubkey, amount: int, *, source: Pubkey | None = None) -> calls.Deposit:
        """source: the depositor's associated payment-token account where not given."""
        vault = self.addresses.vault(wallet)
        return calls.Deposit(
            calls.DepositAccounts(
                depositor=depositor,
                vault=vault,
                source=source or self._payment_account(depositor),
                vault_tokens=self.addresses.vault_tokens(vault),
                token_program=TOKEN_PROGRAM,
            ),
            calls.DepositArgs(amount=amount),
        )

    def withdraw(self, wallet: Pubkey, amount: int, *, destination: Pubkey | None = None) -> calls.Withdraw:
        """destination: the wallet's associated payment-token account where not given."""
        vault = self.addresses.vault(wallet)
        return calls.Withdraw(
            calls.WithdrawAccounts(
                wallet=wallet,
                vault=vault,
                vault_tokens=self.addresses.vault_tokens(vault),
                destination=destination or self._payment_account(wallet),
                token_program=TOKEN_PROGRAM,
            ),
            calls.WithdrawArgs(amount=amount),
        )

    def claim_compensation(self, wallet: Pubkey) -> calls.ClaimCompensation:
        """To the wallet's associated stake-token account."""
        return calls.ClaimCompensation(
            calls.ClaimCompensationAccounts(
                wallet=wallet,
                config=self.addresses.config(),
                vault=self.addresses.vault(wallet),
                compensation_vault=self.addresses.compensation(),
                destination=associated_token_address(wallet, self.deployment.stake_mint),
                token_program=TOKEN_PROGRAM,
            )
        )

    def grant_allowance(
        self, payer: Pubkey, wallet: Pubkey, market: Pubkey, terms: AllowanceTerms
    ) -> calls.GrantAllowance:
        return calls.GrantAllowance(
            calls.GrantAllowanceAccounts(
                payer=payer,
                wallet=wallet,
                config=self.addresses.config(),
                market=market,
                allowance=self.addresses.allowance(wallet, market),
                system_program=SYSTEM_PROGRAM,
            ),
            calls.GrantAllowanceArgs(
                escrow_cap=terms.escrow_cap,
                day_cap=terms.day_cap,
                total_cap=terms.total_cap,
                max_price=terms.max_price,
                expires_at=terms.expires_at_ms,
            ),
        )

    def revoke_allowance(self, wallet: Pubkey, market: Pubkey) -> calls.RevokeAllowance:
        return calls.RevokeAllowance(
            calls.RevokeAllowanceAccounts(wallet=wallet, allowance=self.addresses.allowance(wallet, market))
        )

    def open_escrow(self, escrow: EscrowRef, authority: Pubkey, terms: EscrowTerms) -> calls.OpenEscrow:
        """authority: the wallet for its own escrow, the market's matcher under an allowance.

        The rent payer is `escrow.rent_payer`, who signs too.
        """
        vault = self.addresses.vault(escrow.wallet)
        return calls.OpenEscrow(
            calls.OpenEscrowAccounts(
                payer=escrow.rent_payer,
                authority=authority,
                config=self.addresses.config(),
                market=escrow.market,
                vault=vault,
                vault_tokens=self.addresses.vault_tokens(vault),
                allowance=self._allowance(escrow),
                escrow=self.escrow_address(escrow),
                system_program=SYSTEM_PROGRAM,
            ),
            calls.OpenEscrowArgs(
                nonce=terms.nonce,
                class_id=terms.class_id,
                terms_hash=terms.terms_hash,
                ceiling_price=terms.ceiling_price,
                deposit=terms.deposit,
                max_time=terms.max_time_ms,
                attempts_allowed=terms.attempts_allowed,
            ),
        )

    def cancel_escrow(self, escrow: EscrowRef, authority: Pubkey) -> calls.CancelEscrow:
        """authority: the wallet or the market's matcher."""
        return calls.CancelEscrow(
            calls.CancelEscrowAccounts(
                authority=authority,
                config=self.addresses.config(),
                market=escrow.market,
                escrow=self.escrow_address(escrow),
                vault=self.addresses.vault(escrow.wallet),
                allowance=self._allowance(escrow),
                rent_payer=escrow.rent_payer,
            )
        )

    # settlement

    def assign(
        self, escrow: EscrowRef, node: NodeRef, matcher: Pubkey, claim: SignedClaim, *, check_at: int = 0
    ) -> Approved:
        """check_at: index at which the claim's signature check will stand in the transaction."""
        message = claim.message
        address = self.addresses.node(node.node_key)
        call = calls.Assign(
            calls.AssignAccounts(
                matcher=matcher,
                config=self.addresses.config(),
                market=escrow.market,
                escrow=self.escrow_address(escrow),
                allowance=self._allowance(escrow),
                node=address,
                pool=self.addresses.pool(address),
                class_account=self.addresses.hardware_class(node.class_id),
                instructions=INSTRUCTIONS_SYSVAR,
            ),
            calls.AssignArgs(
                price=message.price_per_hour,
                time_left=message.remaining_max_ms,
                deposit_left=message.remaining_deposit,
                at=message.at_ms,
                claim_approval=check_at,
            ),
        )
        return Approved((SignatureCheck(claim.node_key, message.signing_bytes(), claim.signature),), call)

    def settle(
        self, escrow: EscrowRef, node: NodeRef, submitter: Pubkey, voucher: SignedVoucher, *, check_at: int = 0
    ) -> Approved:
        """check_at: index at which the first signature check will stand in the transaction."""
        checks, args = _approvals(voucher, submitter, check_at)
        parties = self._parties(escrow, node)
        call = calls.Settle(
            calls.SettleAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                market=escrow.market,
                market_fees=parties.market_fees,
                escrow=parties.escrow,
                vault=parties.vault,
                vault_tokens=parties.vault_tokens,
                allowance=self._allowance(escrow),
                node=parties.node,
                pool=parties.pool,
                pool_fees=parties.pool_fees,
                payout=node.payout,
                rent_payer=escrow.rent_payer,
                instructions=INSTRUCTIONS_SYSVAR,
                token_program=TOKEN_PROGRAM,
            ),
            calls.SettleArgs(attempt=voucher.message.attempt, voucher=args),
        )
        return Approved(checks, call)

    def release_node(
        self,
        escrow: EscrowRef,
        node: NodeRef,
        submitter: Pubkey,
        reason: int,
        voucher: SignedVoucher | None,
        *,
        check_at: int = 0,
    ) -> Approved:
        """submitter: the attempt's meter or the market's, or its matcher (reasons 7 to 10)."""
        checks, args = _approvals(voucher, submitter, check_at)
        parties = self._parties(escrow, node)
        call = calls.ReleaseNode(
            calls.ReleaseNodeAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                market=escrow.market,
                market_fees=parties.market_fees,
                escrow=parties.escrow,
                vault=parties.vault,
                vault_tokens=parties.vault_tokens,
                allowance=self._allowance(escrow),
                node=parties.node,
                pool=parties.pool,
                pool_fees=parties.pool_fees,
                payout=node.payout,
                instructions=INSTRUCTIONS_SYSVAR,
                token_program=TOKEN_PROGRAM,
            ),
            calls.ReleaseNodeArgs(reason=reason, voucher=args),
        )
        return Approved(checks, call)

    def quit(
        self,
        escrow: EscrowRef,
        node: NodeRef,
        submitter: Pubkey,
        voucher: SignedVoucher | None,
        *,
        check_at: int = 0,
    ) -> Approved:
        """submitter: the node's key. voucher: its best countersigned one, None if there is none."""
        checks, args = _approvals(voucher, submitter, check_at)
        parties = self._parties(escrow, node)
        call = calls.Quit(
            calls.QuitAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                market=escrow.market,
                market_fees=parties.market_fees,
                escrow=parties.escrow,
                vault=parties.vault,
                vault_tokens=parties.vault_tokens,
                allowance=self._allowance(escrow),
                node=parties.node,
                pool=parties.pool,
                pool_fees=parties.pool_fees,
                payout=node.payout,
                instructions=INSTRUCTIONS_SYSVAR,
                token_program=TOKEN_PROGRAM,
            ),
            calls.QuitArgs(voucher=args),
        )
        return Approved(checks, call)

    def contest(
        self, escrow: EscrowRef, node: NodeRef, submitter: Pubkey, voucher: SignedVoucher, *, check_at: int = 0
    ) -> Approved:
        """node: of the contested attempt. Anyone may submit a voucher that its meter has countersigned."""
        checks, args = _approvals(voucher, submitter, check_at)
        parties = self._parties(escrow, node)
        call = calls.Contest(
            calls.ContestAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                market=escrow.market,
                market_fees=parties.market_fees,
                escrow=parties.escrow,
                vault=parties.vault,
                vault_tokens=parties.vault_tokens,
                allowance=self._allowance(escrow),
                node=parties.node,
                pool=parties.pool,
                pool_fees=parties.pool_fees,
                payout=node.payout,
                instructions=INSTRUCTIONS_SYSVAR,
                token_program=TOKEN_PROGRAM,
            ),
            calls.ContestArgs(voucher=args),
        )
        return Approved(checks, call)

    def close_contest(self, escrow: EscrowRef, node: NodeRef, submitter: Pubkey) -> calls.CloseContest:
        """node: of the contested attempt. Anyone, after the window."""
        parties = self._parties(escrow, node)
        return calls.CloseContest(
            calls.CloseContestAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                escrow=parties.escrow,
                vault=parties.vault,
                allowance=self._allowance(escrow),
                node=parties.node,
                pool=parties.pool,
                position=self.addresses.position(parties.pool, node.operator),
                pool_stake=self.addresses.pool_stake(parties.pool),
                compensation_vault=self.addresses.compensation(),
                rent_payer=escrow.rent_payer,
                token_program=TOKEN_PROGRAM,
            )
        )

    def reap(self, escrow: EscrowRef, node: NodeRef | None, submitter: Pubkey) -> calls.Reap:
        """node: of the running attempt, None for an escrow that is only open."""
        return calls.Reap(
            calls.ReapAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                escrow=self.escrow_address(escrow),
                vault=self.addresses.vault(escrow.wallet),
                allowance=self._allowance(escrow),
                node=None if node is None else self.addresses.node(node.node_key),
                rent_payer=escrow.rent_payer,
            )
        )

    # operators

    def register_node(
        self, operator: Pubkey, node_key: Pubkey, market: Pubkey, class_id: bytes, bond: int, commission_bps: int
    ) -> calls.RegisterNode:
        """Payout and bond: the operator's associated token accounts, which must exist."""
        node = self.addresses.node(node_key)
        pool = self.addresses.pool(node)
        return calls.RegisterNode(
            calls.RegisterNodeAccounts(
                operator=operator,
                node_key=node_key,
                config=self.addresses.config(),
                market=market,
                class_account=self.addresses.hardware_class(class_id),
                node=node,
                pool=pool,
                position=self.addresses.position(pool, operator),
                pool_stake=self.addresses.pool_stake(pool),
                pool_fees=self.addresses.pool_fees(pool),
                payout=self._payment_account(operator),
                stake_source=associated_token_address(operator, self.deployment.stake_mint),
                payment_mint=self.deployment.payment_mint,
                stake_mint=self.deployment.stake_mint,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            ),
            calls.RegisterNodeArgs(bond=bond, commission_bps=commission_bps),
        )

    def bond(self, operator: Pubkey, node_key: Pubkey, amount: int) -> calls.Bond:
        node = self.addresses.node(node_key)
        pool = self.addresses.pool(node)
        return calls.Bond(
            calls.BondAccounts(
                operator=operator,
                config=self.addresses.config(),
                node=node,
                pool=pool,
                position=self.addresses.position(pool, operator),
                stake_source=associated_token_address(operator, self.deployment.stake_mint),
                pool_stake=self.addresses.pool_stake(pool),
                token_program=TOKEN_PROGRAM,
            ),
            calls.BondArgs(amount=amount),
        )

    def update_node(
        self, operator: Pubkey, node_key: Pubkey, market: Pubkey, class_id: bytes, payout: Pubkey
    ) -> calls.UpdateNode:
        node = self.addresses.node(node_key)
        return calls.UpdateNode(
            calls.UpdateNodeAccounts(
                operator=operator,
                config=self.addresses.config(),
                node=node,
                market=market,
                class_account=self.addresses.hardware_class(class_id),
                pool=self.addresses.pool(node),
                payout=payout,
            )
        )

    def withdraw_owed(self, operator: Pubkey, node_key: Pubkey, destination: Pubkey) -> calls.WithdrawOwed:
        """destination: any payment-token account that the operator names."""
        node = self.addresses.node(node_key)
        pool = self.addresses.pool(node)
        return calls.WithdrawOwed(
            calls.WithdrawOwedAccounts(
                operator=operator,
                node=node,
                pool=pool,
                pool_fees=self.addresses.pool_fees(pool),
                destination=destination,
                token_program=TOKEN_PROGRAM,
            )
        )

    # markets and administration

    def register_market(
        self, payer: Pubkey, authority: Pubkey, matcher: Pubkey, meter: Pubkey, fee_bps: int
    ) -> calls.RegisterMarket:
        market = self.addresses.market(authority)
        return calls.RegisterMarket(
            calls.RegisterMarketAccounts(
                payer=payer,
                authority=authority,
                config=self.addresses.config(),
                market=market,
                market_fees=self.addresses.market_fees(market),
                payment_mint=self.deployment.payment_mint,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            ),
            calls.RegisterMarketArgs(matcher=matcher, meter=meter, fee_bps=fee_bps),
        )

    def initialize(
        self,
        payer: Pubkey,
        authority: Pubkey,
        protocol_token: Pubkey,
        program_data: Pubkey | None,
        params: Params,
        epoch_length_ms: int,
        first_emission: int,
    ) -> calls.Initialize:
        """program_data: the upgradeable loader's account, None where the program isn't upgradeable."""
        return calls.Initialize(
            calls.InitializeAccounts(
                payer=payer,
                authority=authority,
                config=self.addresses.config(),
                payment_mint=self.deployment.payment_mint,
                stake_mint=self.deployment.stake_mint,
                protocol_token=protocol_token,
                compensation_vault=self.addresses.compensation(),
                emission_vault=self.addresses.emission(),
                program=self.deployment.program,
                program_data=program_data,
                token_program=TOKEN_PROGRAM,
                system_program=SYSTEM_PROGRAM,
            ),
            calls.InitializeArgs(
                genesis_hash=self.deployment.genesis_hash,
                params=params,
                epoch_length=epoch_length_ms,
                first_emission=first_emission,
            ),
        )

    def set_class(
        self, payer: Pubkey, admin: Pubkey, class_id: bytes, minimum_bond: int, *, enabled: bool
    ) -> calls.SetClass:
        return calls.SetClass(
            calls.SetClassAccounts(
                payer=payer,
                admin=admin,
                config=self.addresses.config(),
                class_account=self.addresses.hardware_class(class_id),
                system_program=SYSTEM_PROGRAM,
            ),
            calls.SetClassArgs(class_id=class_id, minimum_bond=minimum_bond, enabled=enabled),
        )

    def escrow_address(self, escrow: EscrowRef) -> Pubkey:
        return self.addresses.escrow(escrow.wallet, escrow.opener, escrow.nonce)

    def _allowance(self, escrow: EscrowRef) -> Pubkey | None:
        return self.addresses.allowance(escrow.wallet, escrow.market) if escrow.under_allowance else None

    def _payment_account(self, owner: Pubkey) -> Pubkey:
        return associated_token_address(owner, self.deployment.payment_mint)

    def _parties(self, escrow: EscrowRef, node: NodeRef) -> "_Parties":
        address = self.addresses.node(node.node_key)
        pool = self.addresses.pool(address)
        vault = self.addresses.vault(escrow.wallet)
        return _Parties(
            escrow=self.escrow_address(escrow),
            vault=vault,
            vault_tokens=self.addresses.vault_tokens(vault),
            market_fees=self.addresses.market_fees(escrow.market),
            node=address,
            pool=pool,
            pool_fees=self.addresses.pool_fees(pool),
        )


@dataclass(frozen=True, slots=True)
class _Parties:
    """The derived accounts that every settling instruction touches."""

    escrow: Pubkey
    vault: Pubkey
    vault_tokens: Pubkey
    market_fees: Pubkey
    node: Pubkey
    pool: Pubkey
    pool_fees: Pubkey


def _approvals(
    voucher: SignedVoucher | None, submitter: Pubkey, check_at: int
) -> tuple[tuple[SignatureCheck, ...], VoucherArgs]:
    """The signature checks of a voucher, and its arguments with their indexes.

    Raises ValueError when a side neither submits nor has signed: the program would refuse it anyway.
    """
    if voucher is None:
        return (), NO_VOUCHER
    message = voucher.message
    checks: list[SignatureCheck] = []

    def index(side: str, key: Pubkey, signature: Signature | None) -> int:
        if key == submitter:
            return APPROVED_BY_SUBMITTER
        if signature is None:
            raise ValueError(f"the {side} has not signed this voucher")
        checks.append(SignatureCheck(key, message.signing_bytes(), signature))
        return check_at + len(checks) - 1

    node_approval = index("node", voucher.node_key, voucher.node_signature)
    counter_approval = index("countersigner", voucher.counter_key, voucher.counter_signature)
    return tuple(checks), VoucherArgs(
        sequence=message.sequence,
        started_at=message.started_at_ms,
        at=message.at_ms,
        billed=message.billed_ms,
        state=int(message.state),
        reason=message.reason,
        digest=message.digest,
        node_approval=node_approval,
        counter_approval=counter_approval,
    )
