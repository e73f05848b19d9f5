"""Asking a node for its consent, and checking what it signed. Source: api.md section 5.5, program.md section 4."""

from dataclasses import dataclass
from typing import Final

import base58
import structlog

from marketplace.domain.allocations import Allocation
from marketplace.domain.catalogue import class_bytes
from marketplace.domain.ids import NodeId
from marketplace.domain.nodes import Node
from marketplace.domain.quantities import Millis, Tokens
from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.control import Claim, ClaimRequest
from marketplace.protocol.sealing import seal
from marketplace.protocol.signatures import verify
from marketplace.protocol.terms import JobSpec
from marketplace.services.chain_port import ChainPort
from marketplace.services.job_secrets import SecretService
from marketplace.services.node_registry import NodeLink, NodeRegistry, Presence

_log = structlog.get_logger(__name__)

ANSWER_MS: Final = 5_000
"""How long a node may take to answer (system.md section 5)."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What one attempt is offered."""

    attempt: int
    price_per_hour: Tokens
    max_ms: Millis
    deposit: Tokens


@dataclass(frozen=True, slots=True)
class SignedClaim:
    """A node's consent, checked. link: the connection that waits to hear whether the claim is taken."""

    message: ClaimMessage
    claim: Claim
    link: NodeLink


def claim_message(chain: ChainPort, allocation: Allocation, node: Node, terms: Terms, at_ms: int) -> ClaimMessage:
    """The message that a node signs for these terms. node: it claims as its own class."""
    market = chain.terms
    return ClaimMessage(
        program_id=market.program_id,
        genesis_hash=market.genesis_hash,
        escrow=base58.b58decode(allocation.escrow),
        attempt=terms.attempt,
        market=base58.b58decode(market.market),
        node=base58.b58decode(node.address),
        class_id=class_bytes(node.class_id),
        price_per_hour=terms.price_per_hour,
        remaining_max_ms=terms.max_ms,
        remaining_deposit=terms.deposit,
        terms_hash=allocation.terms_hash,
        fee_bps=market.fee_bps,
        at_ms=at_ms,
    )


class Claims:
    """Offers attempts to nodes."""

    def __init__(self, chain: ChainPort, registry: NodeRegistry, secrets: SecretService) -> None:
        self._chain = chain
        self._registry = registry
        self._secrets = secrets

    async def ask(self, allocation: Allocation, node_id: NodeId, terms: Terms) -> SignedClaim | None:
        """The node's consent; None when it refused, was silent, or signed something else. Raises Unreadable."""
        spec = await self._secrets.complete(allocation, JobSpec.model_validate_json(allocation.spec))
        presence = self._registry.find(node_id)
        if presence is None or presence.link is None:
            return None
        with self._registry.offer(node_id, allocation.gpu_count, terms.deposit):
            link = presence.link
            answer = await link.request_claim(self._request(allocation, spec, presence, terms))
        if not isinstance(answer, Claim):
            presence.said_free = 0
            _log.info(
                "no claim", action="claims.ask", node=node_id, allocation=allocation.id,
                code=answer.code if answer is not None else "silent",
            )  # fmt: skip
            return None
        message = self._check(allocation, presence, terms, answer)
        if message is None:
            await link.answer_claim(answer, None)
            return None
        return SignedClaim(message, answer, link)

    def _request(self, allocation: Allocation, spec: JobSpec, presence: Presence, terms: Terms) -> ClaimRequest:
        node = presence.node
        spec = spec.model_copy(update={"image_digest": allocation.image_digest, "class_id": node.class_id})
        market = self._chain.terms
        return ClaimRequest(
            allocation_id=allocation.id,
            attempt=terms.attempt,
            escrow=base58.b58decode(allocation.escrow),
            wallet=base58.b58decode(allocation.wallet),
            market=base58.b58decode(market.market),
            node=base58.b58decode(node.address),
            class_id=node.class_id,
            price_per_hour=terms.price_per_hour,
            max_ms=terms.max_ms,
            deposit=terms.deposit,
            terms_hash=allocation.terms_hash,
            fee_bps=market.fee_bps,
            chain_time_ms=self._chain.now(),
            # What isn't asked for isn't sent: a node that is older than a field would refuse its name alone.
            sealed_spec=seal(base58.b58decode(node.node_key), spec.model_dump_json(exclude_none=True).encode()),
            answer_by_ms=ANSWER_MS,
        )

    def _check(self, allocation: Allocation, presence: Presence, terms: Terms, claim: Claim) -> ClaimMessage | None:
        now, market = self._chain.now(), self._chain.terms
        message = claim_message(self._chain, allocation, presence.node, terms, claim.at_ms)
        fresh = now - market.claim_limit < claim.at_ms <= now + market.skew
        ours = claim.allocation_id == allocation.id and claim.attempt == terms.attempt
        signed = verify(base58.b58decode(presence.node.node_key), message.signing_bytes(), claim.signature)
        if fresh and ours and signed:
            return message
        _log.warning(
            "claim refused", action="claims.check", node=presence.node.id, allocation=allocation.id,
            fresh=fresh, ours=ours, signed=signed,
        )  # fmt: skip
        return None
