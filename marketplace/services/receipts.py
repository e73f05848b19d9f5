"""The receipt of a job, put together from the books and the vouchers. Source: api.md section 5.3."""

import base64

import base58
import orjson

from marketplace.domain.allocations import Allocation, Attempt
from marketplace.domain.instants import instant_text
from marketplace.domain.money import format_amount, per_gpu_second
from marketplace.domain.quantities import Tokens
from marketplace.errors import NotReady
from marketplace.protocol.receipts import (
    Receipt,
    ReceiptCompensation,
    ReceiptSettlement,
    ReceiptSignature,
    SettledAmounts,
)
from marketplace.protocol.vouchers import VoucherMessage
from marketplace.services.chain_port import ChainPort
from marketplace.store.allocations import Attempts
from marketplace.store.books import Books, ChainEscrow, StoredEvent
from marketplace.store.engine import Store, Transaction


class ReceiptService:
    """Makes receipts."""

    def __init__(self, store: Store, chain: ChainPort, currency: str) -> None:
        self._store = store
        self._chain = chain
        self._currency = currency

    async def get(self, allocation: Allocation) -> Receipt:
        """The receipt of a job whose escrow is closed, contest window included. Raises NotReady before."""

        def read(tx: Transaction) -> tuple[ChainEscrow | None, list[StoredEvent], list[Attempt]]:
            books = Books(tx)
            return (
                books.find_escrow(allocation.escrow),
                books.list_events(allocation.escrow),
                Attempts(tx).list_for(allocation.id),
            )

        escrow, events, attempts = await self._store.lookup(read)
        if escrow is None or escrow.state != "closed" or not allocation.terminal:
            raise NotReady("the job is not settled yet; its receipt follows the settlement", retry_after_s=5)
        return self._receipt(allocation, escrow, events, attempts)

    def _receipt(
        self, allocation: Allocation, escrow: ChainEscrow, events: list[StoredEvent], attempts: list[Attempt]
    ) -> Receipt:
        vouchers: list[str] = []
        signatures: list[ReceiptSignature] = []
        index_of: dict[int, int] = {}
        terms = self._chain.terms
        for attempt in attempts:
            if attempt.voucher is None or attempt.node_signature is None or attempt.meter_signature is None:
                continue
            index_of[attempt.number] = index = len(vouchers)
            vouchers.append(base64.b64encode(attempt.voucher).decode())
            signatures.append(
                ReceiptSignature(role="node", voucher=index, key=attempt.node_key, sig=_b58(attempt.node_signature))
            )
            # The attempt's own meter: the market's of the moment may have come after it (docs/market.md, keys).
            meter = attempt.meter_key or terms.meter_key
            signatures.append(
                ReceiptSignature(role="meter", voucher=index, key=meter, sig=_b58(attempt.meter_signature))
            )
        by_number = {attempt.number: attempt for attempt in attempts}
        settlements = [
            payment
            for event in events
            if event.name == "Settled" and (payment := self._payment(event, by_number, index_of)) is not None
        ]
        ran = [a for a in attempts if a.started_chain_ms is not None]
        last = attempts[-1] if attempts else None
        billed = sum(a.billed_ms for a in attempts)
        return Receipt(
            receipt_id=f"rcpt_{allocation.id.removeprefix('alloc_')}",
            job_id=allocation.job_id,
            provider=last.node_address if last is not None else "",
            client=allocation.wallet,
            units=format_amount(billed * allocation.gpu_count, 3),
            unit_price=(
                per_gpu_second(Tokens(last.price_per_hour * 10**terms.decimals), allocation.gpu_count, terms.decimals)
                if last is not None
                else "0"
            ),
            price=str(escrow.paid),
            model=allocation.model,
            image=allocation.image,
            image_digest=allocation.image_digest,
            started_at=_instant(ran[0].started_chain_ms) if ran else None,
            completed_at=_instant(allocation.completed_at_ms),
            reason=allocation.reason.code,
            escrow=allocation.escrow,
            market=terms.market,
            program_id=_b58(terms.program_id),
            genesis_hash=_b58(terms.genesis_hash),
            decimals=terms.decimals,
            currency=self._currency,
            deposit=str(escrow.deposit),
            vouchers=vouchers,
            signatures=signatures,
            settlements=settlements,
            refunded=str(escrow.refunded),
            output_digest=_output_digest(last),
            compensations=[
                found
                for event in events
                if event.name == "ContestClosed" and (found := self._compensation(event)) is not None
            ],
        )

    def _compensation(self, event: StoredEvent) -> ReceiptCompensation | None:
        """What the end of a contest took of the operator's bond for the renter; None where it took nothing."""
        fields = orjson.loads(event.fields)
        if not fields["compensation"]:
            return None
        return ReceiptCompensation(
            transaction=event.signature,
            slot=event.slot,
            attempt=fields["attempt"],
            node=fields["node"],
            amount=str(fields["compensation"]),
            decimals=self._chain.terms.stake_decimals,
        )

    def _payment(
        self, event: StoredEvent, attempts: dict[int, Attempt], index_of: dict[int, int]
    ) -> ReceiptSettlement | None:
        fields = orjson.loads(event.fields)
        attempt = attempts.get(fields["attempt"])
        if attempt is None:
            return None
        return ReceiptSettlement(
            transaction=event.signature,
            slot=event.slot,
            attempt=attempt.number,
            voucher=index_of.get(attempt.number),
            node=fields["node"],
            price_per_hour=str(attempt.price_per_hour),
            protocol_bps=attempt.protocol_bps,
            fee_bps=attempt.fee_bps,
            node_share_bps=self._chain.terms.node_share_bps,
            billed_ms=fields["billed"],
            amount=str(fields["amount"]),
            amounts=SettledAmounts(
                paid=str(fields["paid"]),
                operator=str(fields["operator"]),
                stakers=str(fields["stakers"]),
                market=str(fields["market"]),
                protocol=str(fields["protocol"]),
            ),
        )


def _output_digest(attempt: Attempt | None) -> str | None:
    if attempt is None or attempt.voucher is None:
        return None
    return f"sha256:{VoucherMessage.from_fields(attempt.voucher).digest.hex()}"


def _b58(raw: bytes) -> str:
    return base58.b58encode(raw).decode()


def _instant(at_ms: int | None) -> str | None:
    return None if at_ms is None else instant_text(at_ms)
