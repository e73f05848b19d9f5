"""Every number that users depend on, from where it is decided: the chain, the settings, this code."""

from dataclasses import dataclass
from typing import Final

from marketplace.domain.catalogue import CLASSES
from marketplace.domain.reasons import MEANINGS
from marketplace.domain.staking import DEAD_SHARES_PER_UNIT
from marketplace.protocol.addresses import base58_text
from marketplace.services.chain_link import ChainLink
from marketplace.services.idempotency import RETENTION_MS, SECRET_RETENTION_MS
from marketplace.services.logins import CHALLENGE_MS, REFRESH_S
from marketplace.services.tokens import LIFETIME_S

MISSED_HEARTBEATS: Final = 3
"""After so many a node is lost. Specified: api.md section 5.8."""

MAX_UNACKED_S: Final = 900
"""How long a node goes on at its own risk while the market is silent. Specified: system.md section 5."""
CLAIM_S: Final = 5
"""How long a node has to answer a claim request. Specified: system.md section 5."""
QUOTE_S: Final = 300
"""How long a quote is good. Specified: api.md section 5.1."""


@dataclass(frozen=True, slots=True)
class ChainIdentity:
    """Where the market's money lives. Keys and mints in base58."""

    program_id: str
    genesis_hash: str
    payment_mint: str
    stake_mint: str
    decimals: int
    stake_decimals: int
    currency: str
    market: str
    matcher_key: str
    meter_key: str
    quote_key: str


@dataclass(frozen=True, slots=True)
class ClassTerms:
    """A hardware class; bond in base units of the stake token, None where the chain doesn't know the class."""

    id: str
    title: str
    aliases: tuple[str, ...]
    bond: int | None
    enabled: bool


@dataclass(frozen=True, slots=True)
class ReasonTerms:
    """One way an allocation ends, and who pays what."""

    number: int
    code: str
    meaning: str
    renter_pays: str
    node: str


@dataclass(frozen=True, slots=True)
class Constants:
    """Durations in milliseconds where the name says so, else in seconds; rates in basis points."""

    chain: ChainIdentity
    market_bps: int
    protocol_bps: int
    node_share_bps: int
    classes: tuple[ClassTerms, ...]
    heartbeat_s: int
    pause_s: int
    missed: int
    lost_after_ms: int
    ready_limit_ms: int
    claim_limit_ms: int
    skew_ms: int
    contest_ms: int
    reap_grace_ms: int
    queue_limit_ms: int
    stop_after_ms: int
    unbonding_ms: int
    epoch_ms: int
    epoch_start_ms: int
    commission_delay_ms: int
    commission_step_bps: int
    dead_shares_per_unit: int
    emission_decay_bps: int
    emission_cap_bps: int
    compensation_bps: int
    slash_overclaim_bps: int
    slash_cap_bps: int
    exposure_rate: int
    exposure_multiple: int
    minimum_deposit: int
    challenge_s: int
    token_s: int
    refresh_s: int
    idempotency_s: int
    idempotency_secrets_s: int
    reasons: tuple[ReasonTerms, ...]


class ConstantsService:
    """Publishes them."""

    def __init__(self, link: ChainLink, *, quote_key: str, currency: str, heartbeat_s: int, pause_s: int) -> None:
        self._link = link
        self._quote_key = quote_key
        self._currency = currency
        self._heartbeat_s = heartbeat_s
        self._pause_s = pause_s

    def get(self) -> Constants:
        """As of the last look at the chain. Raises Starting before the first."""
        facts = self._link.facts
        params, deployment = facts.config.params, facts.deployment
        return Constants(
            chain=ChainIdentity(
                program_id=str(deployment.program),
                genesis_hash=base58_text(deployment.genesis_hash),
                payment_mint=str(deployment.payment_mint),
                stake_mint=str(deployment.stake_mint),
                decimals=deployment.payment_decimals,
                stake_decimals=deployment.stake_decimals,
                currency=self._currency,
                market=str(facts.market),
                matcher_key=str(facts.account.matcher),
                meter_key=str(facts.account.meter),
                quote_key=self._quote_key,
            ),
            market_bps=facts.account.fee_bps,
            protocol_bps=params.protocol_bps,
            node_share_bps=params.node_share_bps,
            classes=tuple(self._classes()),
            heartbeat_s=self._heartbeat_s,
            pause_s=self._pause_s,
            missed=MISSED_HEARTBEATS,
            lost_after_ms=params.lost_after,
            ready_limit_ms=params.ready_limit,
            claim_limit_ms=params.claim_limit,
            skew_ms=params.skew,
            contest_ms=params.contest,
            reap_grace_ms=params.reap_grace,
            queue_limit_ms=params.queue_limit,
            stop_after_ms=params.stop_after,
            unbonding_ms=params.unbonding,
            epoch_ms=facts.config.epoch_length,
            epoch_start_ms=facts.config.epoch_start,
            commission_delay_ms=params.commission_delay,
            commission_step_bps=params.commission_step_bps,
            dead_shares_per_unit=DEAD_SHARES_PER_UNIT,
            emission_decay_bps=params.decay_bps,
            emission_cap_bps=params.emission_cap_bps,
            compensation_bps=params.compensation_bps,
            slash_overclaim_bps=params.overclaim_bps,
            slash_cap_bps=params.slash_cap_bps,
            exposure_rate=params.exposure_rate,
            exposure_multiple=params.exposure_multiple,
            minimum_deposit=params.minimum_deposit,
            challenge_s=CHALLENGE_MS // 1000,
            token_s=LIFETIME_S,
            refresh_s=REFRESH_S,
            idempotency_s=RETENTION_MS // 1000,
            idempotency_secrets_s=SECRET_RETENTION_MS // 1000,
            reasons=tuple(
                ReasonTerms(reason.value, reason.code, meaning.text, meaning.renter_pays, meaning.node)
                for reason, meaning in MEANINGS.items()
            ),
        )

    def _classes(self) -> list[ClassTerms]:
        on_chain = self._link.facts.classes
        listed = []
        for entry in CLASSES:
            account = on_chain.get(entry.id)
            listed.append(
                ClassTerms(
                    id=entry.id,
                    title=entry.title,
                    aliases=entry.aliases,
                    bond=account.minimum_bond if account is not None else None,
                    enabled=account is not None and account.enabled,
                )
            )
        return listed
