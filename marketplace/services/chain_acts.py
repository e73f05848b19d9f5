"""The services' view of the chain over `marketplace.chain`: reads, and acts performed once by name."""

import struct
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog
from solders.keypair import Keypair
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain.accounts import AllowanceAccount, EscrowAccount, NodeStatus, VaultAccount
from marketplace.chain.addresses import associated_token_address
from marketplace.chain.builders import (
    Approved,
    CallBuilder,
    Deployment,
    EscrowRef,
    EscrowTerms,
    NodeRef,
    SignedClaim,
    SignedVoucher,
)
from marketplace.chain.errors import AccountMismatch, AccountMissing, ChainError, TransactionExpired, TransactionFailed
from marketplace.chain.hotkeys import MATCHER_CALLS, METER_CALLS, HotKey
from marketplace.chain.outbox import OutboxState, OutboxStore
from marketplace.chain.program import AnchorCodec
from marketplace.chain.reader import ChainReader, TokenAccount
from marketplace.chain.rpc import RpcClient
from marketplace.chain.sender import Sender
from marketplace.chain.stakes import StakedNode, StakeReader
from marketplace.chain.transactions import Assembler, CreateTokenAccount, SignedTransaction, Step
from marketplace.crash import crash_point
from marketplace.domain.allocations import Opener
from marketplace.domain.catalogue import CLASSES, class_bytes
from marketplace.domain.nonces import NonceWindow
from marketplace.domain.quantities import Bps, Lamports, Millis, Shares, Stake, Tokens
from marketplace.domain.reputation import Record
from marketplace.domain.staking import Bucket, exposure_limit_floor, in_force
from marketplace.errors import ChainUnavailable, Starting
from marketplace.protocol.vouchers import VoucherMessage
from marketplace.services.chain_port import (
    Act,
    ActPending,
    ActRefused,
    AllowanceView,
    Assign,
    AttemptView,
    CancelEscrow,
    CloseContest,
    EscrowView,
    Extend,
    FundsView,
    Landed,
    MarketTerms,
    NodeView,
    OpenEscrow,
    ReleaseLost,
    ReleaseUnstarted,
    Settle,
    VaultView,
)
from marketplace.services.clock import Clock

_log = structlog.get_logger(__name__)

_CLOCK_SYSVAR: Final = Pubkey.from_string("SysvarC1ock11111111111111111111111111111111")
_CLOCK: Final = struct.Struct("<QqQQq")
_DAY_MS: Final = 86_400_000
_STATES: Final = ("open", "assigned", "closing")
_MARGIN_BLOCKS: Final = 8
"""As the sender's: a height that is past by so much can't land on any fork."""
_ATTEMPTS: Final = 3
"""Chosen: how often an expired transaction is signed anew within one call; beyond, the caller decides again."""


@dataclass(frozen=True, slots=True)
class MarketKeys:
    """The market's hot keys. Each signs only what this module builds."""

    matcher: Keypair
    meter: Keypair


class MeterKeys:
    """The meters' keys as the meter service wants them: the one in use, and those that a rotation replaced."""

    def __init__(self, present: Keypair, retired: Mapping[str, Keypair]) -> None:
        self._present = str(present.pubkey())
        self._keys = {**retired, self._present: present}

    def holds(self, meter: str | None) -> bool:
        return (meter or self._present) in self._keys

    def sign(self, meter: str | None, message: bytes) -> bytes:
        return bytes(self._keys[meter or self._present].sign_message(message))


@asynccontextmanager
async def _asking() -> AsyncIterator[None]:
    """Turn the chain's own errors into the market's: "could not ask" is 503, a wrong account is our own fault."""
    try:
        yield
    except TransactionFailed as failed:
        raise ActRefused(str(failed), failed.error_name, failed.failure.custom) from failed
    except (AccountMismatch, AccountMissing) as error:
        raise ActRefused(str(error)) from error
    except ChainError as error:
        raise ChainUnavailable from error


class SolanaChain:
    """`ChainPort` on a real chain. `open` first."""

    def __init__(
        self,
        rpc: RpcClient,
        codec: AnchorCodec,
        sender: Sender,
        outbox: OutboxStore,
        market: Pubkey,
        keys: MarketKeys,
        clock: Clock,
    ) -> None:
        self._rpc = rpc
        self._reader = ChainReader(rpc, codec)
        self._assembler = Assembler(rpc, codec)
        self._sender = sender
        self._outbox = outbox
        self._market = market
        self._keys = keys
        self._clock = clock
        self._calls: CallBuilder | None = None
        self._terms: MarketTerms | None = None
        self._exposure: tuple[int, int] = (0, 0)
        self._bonds: dict[bytes, int] = {}
        self._chain_ms = 0
        self._read_at = 0

    async def open(self) -> None:
        """Read what doesn't change, and the clock. Raises ChainUnavailable, ActRefused for a foreign deployment."""
        async with _asking():
            deployment = await self._reader.get_deployment()
            config = await self._reader.get_config()
            market = await self._reader.get_market(self._market)
            for entry in CLASSES:
                known = await self._reader.find_class(class_bytes(entry.id))
                if known is not None:
                    self._bonds[class_bytes(entry.id)] = known.minimum_bond
            rent = await self._rpc.get_minimum_balance_for_rent_exemption(
                self._reader.codec.account_bytes(EscrowAccount)
            )
        if (market.matcher, market.meter) != (self._keys.matcher.pubkey(), self._keys.meter.pubkey()):
            raise ActRefused("the market's account names other matcher and meter keys than the key files hold")
        self._calls = CallBuilder(deployment)
        params = config.params
        self._exposure = (params.exposure_rate, params.exposure_multiple)
        self._terms = MarketTerms(
            program_id=bytes(deployment.program),
            genesis_hash=deployment.genesis_hash,
            market=str(self._market),
            matcher_key=str(market.matcher),
            meter_key=str(market.meter),
            payment_mint=str(deployment.payment_mint),
            stake_mint=str(deployment.stake_mint),
            decimals=deployment.payment_decimals,
            stake_decimals=deployment.stake_decimals,
            fee_bps=Bps(params.protocol_bps + market.fee_bps),
            protocol_bps=Bps(params.protocol_bps),
            node_share_bps=Bps(params.node_share_bps),
            lost_after=Millis(params.lost_after),
            ready_limit=Millis(params.ready_limit),
            claim_limit=Millis(params.claim_limit),
            skew=Millis(params.skew),
            contest_window=Millis(params.contest),
            reap_grace=Millis(params.reap_grace),
            queue_limit=Millis(params.queue_limit),
            minimum_deposit=Tokens(params.minimum_deposit),
            compensation_bps=Bps(params.compensation_bps),
            escrow_rent=Lamports(rent),
        )
        await self.set_clock()

    async def set_clock(self) -> None:
        """Read the Clock sysvar. Chain time counts whole seconds; between two readings ours never goes back by less."""
        asked = self._clock.monotonic_ms()
        async with _asking():
            info = await self._rpc.find_account(_CLOCK_SYSVAR)
        if info is None or len(info.data) != _CLOCK.size:
            raise ChainUnavailable("the chain shows no clock; nothing was spent")
        read_ms = _CLOCK.unpack(info.data)[4] * 1000
        at = self._clock.monotonic_ms()
        running = self._chain_ms + at - self._read_at
        # A whole second is read: the true time lay within it at some moment between question and answer. Where ours
        # may have, too, the reading says nothing new, however long the answer took.
        if not self._chain_ms or not read_ms <= running < read_ms + 1000 + at - asked:
            self._chain_ms, self._read_at = read_ms, at

    @property
    def terms(self) -> MarketTerms:
        if self._terms is None:
            raise Starting
        return self._terms

    @property
    def deployment(self) -> Deployment:
        """Program, mints and decimals."""
        return self._builder.deployment

    @property
    def _builder(self) -> CallBuilder:
        if self._calls is None:
            raise Starting
        return self._calls

    def now(self) -> Millis:
        return Millis(self._chain_ms + self._clock.monotonic_ms() - self._read_at)

    # reads

    def escrow_address(self, wallet: str, opener: Opener, nonce: int) -> str:
        owner = Pubkey.from_string(wallet)
        by = self._market if opener is Opener.MARKET else owner
        return str(self._builder.addresses.escrow(owner, by, nonce))

    def node_address(self, node_key: str) -> str:
        return str(self._builder.addresses.node(Pubkey.from_string(node_key)))

    async def find_funds(self, wallet: str) -> FundsView:
        owner = Pubkey.from_string(wallet)
        own = associated_token_address(owner, self.deployment.payment_mint)
        async with _asking():
            found = await self._reader.find_funds(owner, self._market, own)
        return FundsView(
            vault=None if found.vault is None else self._vault_view(owner, found.vault, found.vault_tokens),
            allowance=None if found.allowance is None else self._allowance_view(owner, found.allowance),
            wallet_balance=Tokens(0 if found.own_tokens is None else found.own_tokens.amount),
        )

    def _vault_view(self, owner: Pubkey, vault: VaultAccount, tokens: TokenAccount | None) -> VaultView:
        return VaultView(
            address=str(self._builder.addresses.vault(owner)),
            balance=Tokens(0 if tokens is None else tokens.amount),
            locked=Tokens(vault.locked),
            nonces=NonceWindow(vault.nonces.highest, bytes(vault.nonces.used)),
        )

    async def find_allowance(self, wallet: str) -> AllowanceView | None:
        owner = Pubkey.from_string(wallet)
        async with _asking():
            found = await self._reader.find_allowance(owner, self._market)
        return None if found is None else self._allowance_view(owner, found)

    def _allowance_view(self, owner: Pubkey, found: AllowanceAccount) -> AllowanceView:
        today = self.now() // _DAY_MS
        return AllowanceView(
            address=str(self._builder.addresses.allowance(owner, self._market)),
            per_escrow=Tokens(found.escrow_cap),
            per_day=Tokens(found.day_cap),
            used_today=Tokens(found.day_used if found.day == today else 0),
            total=Tokens(found.total_cap),
            used_total=Tokens(found.total_used),
            max_price_per_hour=Tokens(found.max_price),
            expires_at=Millis(found.expires_at),
            nonces=NonceWindow(found.nonces.highest, bytes(found.nonces.used)),
        )

    async def find_escrow(self, escrow: str) -> EscrowView | None:
        async with _asking():
            found = await self._reader.find(EscrowAccount, Pubkey.from_string(escrow))
        if found is None:
            return None
        account = found.account
        return EscrowView(
            address=escrow,
            wallet=str(account.wallet),
            opener=Opener.WALLET if account.opener == account.wallet else Opener.MARKET,
            nonce=account.nonce,
            terms_hash=bytes(account.terms_hash),
            state=_STATES[account.state],
            deposit=Tokens(account.deposit),
            paid=Tokens(account.paid),
            reserve=Tokens(account.contest.attempt.exposure),
            max_time=Millis(account.max_time),
            ended_time=Millis(account.ended_time),
            assign_by=Millis(account.assign_by),
            stop_at=Millis(account.stop_at),
            attempt=AttemptView(
                number=account.attempt.number,
                node=str(account.attempt.node),
                price_per_hour=Tokens(account.attempt.price),
                meter=str(account.attempt.meter),
                assigned_at=Millis(account.attempt.assigned_at),
                last_at=Millis(account.attempt.last_at),
                billed=Millis(account.attempt.billed),
                amount=Tokens(account.attempt.amount),
            ),
            contested_attempt=account.contest.attempt.number,
            released_at=Millis(account.contest.released_at),
            lamports=Lamports(found.lamports),
        )

    async def find_node(self, node_key: str) -> NodeView | None:
        async with _asking():
            found = await StakeReader(self._reader).find_node(
                self._builder.addresses.node(Pubkey.from_string(node_key))
            )
        return None if found is None else self._node(found)

    async def list_nodes(self) -> list[NodeView]:
        async with _asking():
            nodes = await self._reader.list_nodes_of_market(self._market)
            found = await StakeReader(self._reader).find_nodes([located.address for located in nodes])
        # One that was closed between the two looks is gone.
        return [self._node(staked) for staked in found if staked is not None]

    def _node(self, staked: StakedNode) -> NodeView:
        account, pool = staked.node, staked.pool
        rate, multiple = self._exposure
        bond = Bucket(Stake(pool.active_stake), Shares(pool.active_shares)).stake_for_floor(Shares(pool.bond_shares))
        commission = in_force(
            Bps(pool.commission_bps), Bps(pool.pending_commission_bps), Millis(pool.pending_commission_at), self.now()
        )
        return NodeView(
            address=str(staked.address),
            node_key=str(account.node_key),
            operator=str(account.operator),
            market=str(account.market),
            class_id=bytes(account.class_id).rstrip(b"\0").decode(),
            status=NodeStatus(account.status).name.lower(),
            record=Record(account.attempts_well, account.attempts_lost),
            bond=bond,
            bond_needed=Stake(self._bonds.get(bytes(account.class_id), 0) + account.held),
            stake=Stake(pool.active_stake),
            exposure=Tokens(account.exposure),
            exposure_limit=exposure_limit_floor(Stake(pool.active_stake), rate, multiple),
            commission_bps=commission,
            attempts=account.attempts,
        )

    # acts

    async def under_way(self, operation: str) -> bool:
        entry = await self._outbox.latest(operation)
        return entry is not None and entry.state not in (OutboxState.FAILED, OutboxState.EXPIRED)

    async def perform(self, operation: str, acts: Sequence[Act], *, timeout_ms: int = 20_000) -> Landed:
        deadline = time.monotonic() + timeout_ms / 1000
        for _ in range(_ATTEMPTS):
            signature = await self._send(operation, acts)
            remaining = max(0.1, deadline - time.monotonic())
            try:
                entry = await self._sender.wait(signature, timeout_s=remaining)
            except TransactionExpired:
                _log.info("expired, signed anew", action="chain.perform", operation=operation)
                continue
            except TransactionFailed as failed:
                raise ActRefused(str(failed), failed.error_name, failed.failure.custom) from failed
            if not entry.state.landed:
                raise ActPending(f"{operation} is not confirmed yet")
            return Landed(str(entry.signature), entry.slot or 0)
        raise ActPending(f"{operation} expired again and again")

    async def _send(self, operation: str, acts: Sequence[Act]) -> Signature:
        """The signature of the operation's transaction: the one that is under way, or a new one."""
        latest = await self._outbox.latest(operation)
        if latest is not None and latest.state not in (OutboxState.FAILED, OutboxState.EXPIRED):
            return latest.signature
        async with _asking():
            signed = await self._build(acts)
        crash_point("market.before_send")
        entry = await self._sender.submit(operation, signed.raw, signed.last_valid_block_height)
        crash_point("market.after_send")
        return entry.signature

    async def _build(self, acts: Sequence[Act]) -> SignedTransaction:
        steps: list[Step] = []
        signer = self._signer(acts)
        opening = next((self._new_ref(act) for act in acts if isinstance(act, OpenEscrow)), None)
        for act in acts:
            escrow = opening or await self._ref(act.escrow)
            steps.extend(await self._steps(act, escrow, signer.pubkey(), len(steps)))
        unsigned = await self._assembler.assemble(steps, signer.pubkey())
        return signer.sign(unsigned)

    def _signer(self, acts: Sequence[Act]) -> HotKey:
        """The approving key pays the fee (program.md section 7); each signs the calls on its own list only."""
        if isinstance(acts[0], (Settle, ReleaseLost, CloseContest)):
            return HotKey(self._keys.meter, METER_CALLS, self._reader.codec)
        return HotKey(self._keys.matcher, MATCHER_CALLS, self._reader.codec)

    async def _steps(  # noqa: PLR0911 - one return for each kind of act
        self, act: Act, escrow: EscrowRef, signer: Pubkey, at: int
    ) -> list[Step]:
        """The act's part of a transaction that has `at` steps before it: signature checks, then the call."""
        calls = self._builder
        if isinstance(act, OpenEscrow):
            return [calls.open_escrow(escrow, signer, _terms(act))]
        if isinstance(act, CancelEscrow):
            return [calls.cancel_escrow(escrow, signer)]
        if isinstance(act, Extend):
            return [await self._extend(act, escrow, signer)]
        node = await self._node_ref(act.node_key)
        match act:
            case Assign():
                claim = SignedClaim(act.claim, node.node_key, Signature.from_bytes(act.signature))
                return _with_checks(calls.assign(escrow, node, signer, claim, check_at=at))
            case Settle():
                voucher = _voucher(act.voucher, node, act, signer)
                return _with_checks(calls.settle(escrow, node, signer, voucher, check_at=at))
            case ReleaseLost():
                shown = None
                if act.voucher is not None and act.node_signature is not None:
                    shown = _voucher(act.voucher, node, act, signer)
                return _with_checks(calls.release_node(escrow, node, signer, int(act.reason), shown, check_at=at))
            case ReleaseUnstarted():
                return _with_checks(calls.release_node(escrow, node, signer, int(act.reason), None, check_at=at))
            case CloseContest():
                return [calls.close_contest(escrow, node, signer)]

    async def _extend(self, act: Extend, escrow: EscrowRef, opener: Pubkey) -> Step:
        node = None if act.node_key is None else await self._node_ref(act.node_key)
        return self._builder.extend_escrow(escrow, opener, act.added_deposit, act.added_time, node)

    def _new_ref(self, act: OpenEscrow) -> EscrowRef:
        return EscrowRef(
            wallet=Pubkey.from_string(act.wallet),
            opener=self._market,
            nonce=act.nonce,
            market=self._market,
            rent_payer=self._keys.matcher.pubkey(),
        )

    async def _ref(self, escrow: str) -> EscrowRef:
        return EscrowRef.of((await self._reader.get(EscrowAccount, Pubkey.from_string(escrow))).account)

    async def _node_ref(self, node_key: str) -> NodeRef:
        account = await self._reader.find_node(Pubkey.from_string(node_key))
        if account is None:
            raise AccountMissing(f"no node account for the key {node_key}")
        return NodeRef.of(account)

    # for wallets

    def open_steps(self, act: OpenEscrow, *, deposit_gap: Tokens, open_vault: bool) -> Sequence[Step]:
        wallet = Pubkey.from_string(act.wallet)
        escrow = EscrowRef(wallet=wallet, opener=wallet, nonce=act.nonce, market=self._market, rent_payer=wallet)
        steps: list[Step] = []
        if open_vault:
            steps.append(self._builder.open_vault(wallet, wallet))
        if deposit_gap:
            steps.append(self._builder.deposit(wallet, wallet, deposit_gap))
        steps.append(self._builder.open_escrow(escrow, wallet, _terms(act)))
        return steps

    async def extend_steps(self, act: Extend, *, deposit_gap: Tokens) -> Sequence[Step]:
        wallet = Pubkey.from_string(act.wallet)
        async with _asking():
            call = await self._extend(act, await self._ref(act.escrow), wallet)
        deposit = [self._builder.deposit(wallet, wallet, deposit_gap)] if deposit_gap else []
        return [*deposit, call]

    def register_steps(self, operator: str, node_key: str, class_id: str, bond: Stake) -> Sequence[Step]:
        owner = Pubkey.from_string(operator)
        return [
            # The program pays into this account and refuses one that doesn't exist.
            CreateTokenAccount(owner, owner, self.deployment.payment_mint),
            self._builder.register_node(
                owner, Pubkey.from_string(node_key), self._market, class_bytes(class_id), bond, 0
            ),
        ]

    async def class_bond(self, class_id: str) -> Stake | None:
        """The least bond of a class, None where the deployment hasn't it or has it disabled."""
        async with _asking():
            found = await self._reader.find_class(class_bytes(class_id))
        return Stake(found.minimum_bond) if found is not None and found.enabled else None

    async def expired(self, last_valid_block_height: int) -> bool:
        async with _asking():
            return await self._rpc.get_block_height() > last_valid_block_height + _MARGIN_BLOCKS


def _terms(act: OpenEscrow) -> EscrowTerms:
    return EscrowTerms(
        nonce=act.nonce,
        class_id=class_bytes(act.class_id),
        terms_hash=act.terms_hash,
        ceiling_price=act.ceiling_per_hour,
        deposit=act.deposit,
        max_time_ms=act.max_time,
        attempts_allowed=act.attempts,
    )


def _voucher(message: VoucherMessage, node: NodeRef, act: Settle | ReleaseLost, signer: Pubkey) -> SignedVoucher:
    """The node approves by its signature; the meter by submitting, a retired one by the signature it gave then.

    So neither a retired key nor SOL on it is needed for what it has already countersigned.
    """
    return SignedVoucher(
        message=message,
        node_key=node.node_key,
        counter_key=signer if act.meter_key is None else Pubkey.from_string(act.meter_key),
        node_signature=None if act.node_signature is None else Signature.from_bytes(act.node_signature),
        counter_signature=None if act.meter_signature is None else Signature.from_bytes(act.meter_signature),
    )


def _with_checks(approved: Approved) -> list[Step]:
    return [*approved.checks, approved.call]
