"""A receipt held against the chain: the payments it names really happened, by the program and keys it names.

Offline, a receipt proves that its signatures and sums are right; only the chain proves that its transactions exist,
that its node's key is the one registered on chain, and that the countersigner was the attempt's meter.
"""

from collections.abc import Sequence
from typing import Final

from solders.pubkey import Pubkey

from marketplace.chain.addresses import Addresses, parse_address, parse_signature
from marketplace.chain.answers import LandedTransaction
from marketplace.chain.errors import NotCanonical
from marketplace.chain.events import ContestClosedEvent, EscrowClosedEvent, SettledEvent
from marketplace.chain.logs import EventLog, read_events
from marketplace.chain.program import AnchorCodec
from marketplace.chain.rpc import RpcClient
from marketplace.protocol.receipts import Check, Receipt, ReceiptCompensation, ReceiptSettlement

_AMOUNTS: Final = ("paid", "operator", "stakers", "market", "protocol")


async def compare_with_chain(receipt: Receipt, rpc: RpcClient) -> tuple[Check, ...]:
    """Checks of a receipt that need an RPC node: cluster, transactions, payments, keys, sums.

    Raises RpcUnavailable when the node doesn't answer; a transaction that it doesn't know is a failed check.
    """
    genesis = str(await rpc.get_genesis_hash())
    checks = [_equal("the cluster is the receipt's", genesis, receipt.genesis_hash)]
    try:
        program = parse_address(receipt.program_id)
        escrow = parse_address(receipt.escrow)
        acts: list[ReceiptSettlement | ReceiptCompensation] = [*receipt.settlements, *receipt.compensations]
        names = list(dict.fromkeys(act.transaction for act in acts))
        wanted = [parse_signature(name) for name in names]
    except NotCanonical as error:
        return (*checks, Check("addresses and transactions can be read", passed=False, detail=error.message))
    codec = AnchorCodec(program)
    settled: list[tuple[str, SettledEvent]] = []
    closed: list[EscrowClosedEvent] = []
    contests: list[tuple[str, ContestClosedEvent]] = []
    for name, signature in zip(names, wanted, strict=True):
        landed = await rpc.find_transaction(signature)
        checks.append(_landed(name, landed))
        if landed is None or landed.failure is not None:
            continue
        log = read_events(landed.logs, codec)
        checks += _slots(name, landed, acts)
        settled += [(name, e) for e in log.events if isinstance(e, SettledEvent) and e.escrow == escrow]
        closed += [e for e in log.events if isinstance(e, EscrowClosedEvent) and e.escrow == escrow]
        contests += [(name, e) for e in log.events if isinstance(e, ContestClosedEvent) and e.escrow == escrow]
        checks += _whole(name, log)
    checks += _payments(receipt, settled)
    checks += _compensations(receipt, contests)
    checks += [_refund(receipt, event) for event in closed]
    return tuple(checks)


def key_checks(receipt: Receipt) -> tuple[Check, ...]:
    """The node's address on chain follows from its key: whoever signed is the node that was paid. Needs no RPC."""
    try:
        addresses = Addresses(parse_address(receipt.program_id))
        derived = {s.voucher: str(addresses.node(parse_address(s.key))) for s in receipt.signatures if s.role == "node"}
    except NotCanonical as error:
        return (Check("the node's key can be read", passed=False, detail=error.message),)
    return tuple(
        _equal(f"payment {index}: the signing key is the paid node's", derived.get(payment.voucher), payment.node)
        for index, payment in enumerate(receipt.settlements)
        if payment.voucher is not None
    )


def _landed(name: str, landed: LandedTransaction | None) -> Check:
    if landed is None:
        return Check(f"transaction {name} is on chain", passed=False, detail="this RPC node doesn't know it")
    if landed.failure is not None:
        return Check(f"transaction {name} succeeded", passed=False, detail=str(landed.failure))
    return Check(f"transaction {name} is on chain", passed=True, detail=f"slot {landed.slot}")


def _slots(
    name: str, landed: LandedTransaction, payments: Sequence[ReceiptSettlement | ReceiptCompensation]
) -> list[Check]:
    return [
        Check(f"transaction {name}: slot", passed=False, detail=f"{payment.slot}, on chain {landed.slot}")
        for payment in payments
        if payment.transaction == name and payment.slot != landed.slot
    ]


def _whole(name: str, log: EventLog) -> list[Check]:
    cut = Check(f"transaction {name}: log", passed=False, detail="the RPC node has cut it; ask another one")
    return [cut] if log.truncated else []


def _payments(receipt: Receipt, settled: Sequence[tuple[str, SettledEvent]]) -> list[Check]:
    """Receipt and events pair off one to one: a payment missing on either side is a failed check."""
    meters = {s.voucher: s.key for s in receipt.signatures if s.role == "meter"}
    left = list(settled)
    checks = []
    for index, payment in enumerate(receipt.settlements):
        found = next((entry for entry in left if _is_of(entry, payment)), None)
        if found is None:
            checks.append(
                Check(f"payment {index} is on chain", passed=False, detail="no such payment in its transaction")
            )
            continue
        left.remove(found)
        event = found[1]
        differing = [
            f"{name} {ours} on chain, {theirs} in the receipt"
            for name, ours, theirs in _facts(event, payment)
            if ours != theirs
        ]
        checks.append(
            Check(
                f"payment {index} is on chain as the receipt says",
                passed=not differing,
                detail="; ".join(differing) or f"paid {event.paid}, operator {event.operator}",
            )
        )
        if payment.voucher is not None:
            meter = meters.get(payment.voucher)
            checks.append(
                _equal(f"payment {index}: the meter's key is the countersigner", meter, str(event.countersigner))
            )
    checks += [
        Check("every payment is in the receipt", passed=False, detail=f"{event.paid} paid in {name} is not")
        for name, event in left
        if event.paid
    ]
    return checks


def _compensations(receipt: Receipt, contests: Sequence[tuple[str, ContestClosedEvent]]) -> list[Check]:
    """Each is what the end of its attempt's contest took of the operator's bond."""
    took = {(name, e.attempt, str(e.node)): e.compensation for name, e in contests}
    return [
        _equal(
            f"compensation {index} is on chain as the receipt says",
            str(took.get((entry.transaction, entry.attempt, entry.node))),
            entry.amount,
        )
        for index, entry in enumerate(receipt.compensations)
    ]


def _is_of(entry: tuple[str, SettledEvent], payment: ReceiptSettlement) -> bool:
    name, event = entry
    return name == payment.transaction and event.attempt == payment.attempt and event.billed == payment.billed_ms


def _facts(event: SettledEvent, payment: ReceiptSettlement) -> list[tuple[str, str, str]]:
    facts = [("node", str(event.node), payment.node), ("amount", str(event.amount), payment.amount)]
    return facts + [(name, str(getattr(event, name)), getattr(payment.amounts, name)) for name in _AMOUNTS]


def _refund(receipt: Receipt, event: EscrowClosedEvent) -> Check:
    """The closing event of the escrow: all that was paid, and whose money came back."""
    said = (str(event.wallet), str(event.paid), str(event.refunded))
    # While a contest is open a reserve is still locked; it is refunded by close_contest, in another transaction.
    expected = (receipt.client, receipt.price, str(event.refunded) if event.contested else receipt.refunded)
    return Check(
        "the escrow closed with these sums",
        passed=said == expected,
        detail=f"wallet {said[0]}, paid {said[1]}, refunded {said[2]}",
    )


def _equal(name: str, found: str | Pubkey | None, expected: str) -> Check:
    same = str(found) == expected
    return Check(name, passed=same, detail=expected if same else f"{found}, expected {expected}")
