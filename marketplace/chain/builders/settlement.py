"""Calls that open, run, end and close an escrow."""

from dataclasses import dataclass

from solders.pubkey import Pubkey

from marketplace.chain import instructions as calls
from marketplace.chain.addresses import INSTRUCTIONS_SYSVAR, SYSTEM_PROGRAM, TOKEN_PROGRAM
from marketplace.chain.builders.approvals import approvals, node_approval
from marketplace.chain.builders.base import DeploymentCalls
from marketplace.chain.builders.refs import Approved, EscrowRef, EscrowTerms, NodeRef, SignedClaim, SignedVoucher
from marketplace.chain.ed25519 import SignatureCheck


class SettlementCalls(DeploymentCalls):
    """What opens, runs, ends and closes an escrow."""

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

    def extend_escrow(
        self, escrow: EscrowRef, opener: Pubkey, added_deposit: int, added_time_ms: int, node: NodeRef | None
    ) -> calls.ExtendEscrow:
        """opener: the wallet for its own escrow, the market's matcher for one under an allowance.

        node: of the running attempt, None while the escrow is only open.
        """
        vault = self.addresses.vault(escrow.wallet)
        address = None if node is None else self.addresses.node(node.node_key)
        return calls.ExtendEscrow(
            calls.ExtendEscrowAccounts(
                opener=opener,
                config=self.addresses.config(),
                market=escrow.market,
                escrow=self.escrow_address(escrow),
                vault=vault,
                vault_tokens=self.addresses.vault_tokens(vault),
                allowance=self._allowance(escrow),
                node=address,
                pool=None if address is None else self.addresses.pool(address),
            ),
            calls.ExtendEscrowArgs(added_deposit=added_deposit, added_time=added_time_ms),
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
        checks, args = approvals(voucher, submitter, check_at)
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
        checks, args = approvals(voucher, submitter, check_at)
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
        checks, args = approvals(voucher, submitter, check_at)
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
        checks, args = approvals(voucher, submitter, check_at)
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

    def prove_overclaim(
        self, escrow: EscrowRef, node: NodeRef, submitter: Pubkey, voucher: SignedVoucher, *, check_at: int = 0
    ) -> Approved:
        """Anyone may submit: only the node's signature of the voucher counts, its countersigner is not asked."""
        checks, args = node_approval(voucher, submitter, check_at)
        parties = self._parties(escrow, node)
        call = calls.ProveOverclaim(
            calls.ProveOverclaimAccounts(
                submitter=submitter,
                config=self.addresses.config(),
                escrow=parties.escrow,
                vault=parties.vault,
                allowance=self._allowance(escrow),
                node=parties.node,
                pool=parties.pool,
                pool_stake=self.addresses.pool_stake(parties.pool),
                emission_vault=self.addresses.emission(),
                instructions=INSTRUCTIONS_SYSVAR,
                token_program=TOKEN_PROGRAM,
            ),
            calls.ProveOverclaimArgs(voucher=args),
        )
        return Approved(checks, call)

    def escrow_address(self, escrow: EscrowRef) -> Pubkey:
        return self.addresses.escrow(escrow.wallet, escrow.opener, escrow.nonce)

    def _allowance(self, escrow: EscrowRef) -> Pubkey | None:
        return self.addresses.allowance(escrow.wallet, escrow.market) if escrow.under_allowance else None

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
