"""Where the money of one job went: what the market says of it, held against the chain's own transactions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from marketplace.domain.ids import created_at_ms
from scripts.local_stack import StackError

if TYPE_CHECKING:
    from scripts.local_stack import Stack

DECIMALS = 6
LAMPORTS_PER_SIGNATURE = 5_000


@dataclass(frozen=True)
class Transaction:
    """One of the job's transactions, as the chain has it. received: by wallet, in base units of the payment token."""

    signature: str
    kind: str
    fee_lamports: int
    signers: tuple[str, ...]
    received: dict[str, int]

    @property
    def signatures(self) -> int:
        """Each costs the same, and no other fee is paid."""
        return self.fee_lamports // LAMPORTS_PER_SIGNATURE


class Money:
    """The books of a job whose escrow is closed. Raises StackError where market and chain differ."""

    def __init__(self, stack: Stack, job: dict[str, Any]) -> None:
        self.settlement = job["settlement"]
        mint = stack.get("/v1/constants")["chain"]["payment_mint"]
        self.transactions = [_transaction(stack, entry, mint) for entry in self.settlement["transactions"]]
        self.signatures = sum(t.signatures for t in self.transactions)
        # confirmed, as the market's books are: the default is what is final, some slots later
        where = {"encoding": "base64", "commitment": "confirmed"}
        account = stack.rpc("getAccountInfo", self.settlement["escrow"], where)
        if account is None:
            raise StackError(f"the chain does not answer for {self.settlement['escrow']}")
        self.rent_left = account["value"]["lamports"] if account["value"] else 0
        self._check(stack)

    def _check(self, stack: Stack) -> None:
        s = self.settlement
        require(self.rent_left == 0, f"rent is left in {s['escrow']}", stack)
        require(self.signatures == s["signatures"], "market and chain count signatures differently", stack)
        parts = [s["operator_received"], *s["fees"].values()]
        require(sum(map(units, parts)) == units(s["paid"]), "the parts do not make the payment", stack)
        whole = units(s["paid"]) + units(s["refunded"])
        require(whole == units(s["deposit"]), "deposit is not paid plus refunded", stack)
        operators = [stack.address_of(node.home / "operator.json") for node in stack.nodes.values()]
        received = sum(t.received.get(operator, 0) for t in self.transactions for operator in operators)
        require(
            received == units(s["operator_received"]),
            f"the operators' token accounts received {received} base units, the market says {s['operator_received']}",
            stack,
        )

    def signed_by(self, wallet: str) -> int:
        """How many of the job's transactions the wallet signed."""
        return sum(wallet in t.signers for t in self.transactions)

    def units(self) -> dict[str, Any]:
        """For --json: amounts in base units."""
        s = self.settlement
        return {
            "escrow": s["escrow"],
            "deposit": units(s["deposit"]),
            "billed_ms": s["billed_ms"],
            "price_per_hour": units(s["price_per_hour"]),
            "paid": units(s["paid"]),
            "operator_received": units(s["operator_received"]),
            "fees": {name: units(value) for name, value in s["fees"].items()},
            "refunded": units(s["refunded"]),
            "rent_left_lamports": self.rent_left,
            "signatures": self.signatures,
            "transactions": [t.signature for t in self.transactions],
        }


def _transaction(stack: Stack, entry: dict[str, Any], mint: str) -> Transaction:
    signature = entry["signature"]
    # confirmed: the finalized one follows some slots later
    options = {"commitment": "confirmed", "maxSupportedTransactionVersion": 1}
    found = stack.wait_until(f"transaction {signature}", lambda: stack.rpc("getTransaction", signature, options))
    require(found["meta"]["err"] is None, f"transaction {signature} failed on chain", stack)
    message = found["transaction"]["message"]
    received: dict[str, int] = {}
    for sign, name in ((-1, "preTokenBalances"), (1, "postTokenBalances")):
        for balance in found["meta"][name]:
            if balance["mint"] == mint:
                owner = balance["owner"]
                received[owner] = received.get(owner, 0) + sign * int(balance["uiTokenAmount"]["amount"])
    return Transaction(
        signature=signature,
        kind=entry["kind"],
        fee_lamports=found["meta"]["fee"],
        signers=tuple(message["accountKeys"][: message["header"]["numRequiredSignatures"]]),
        received=received,
    )


def attempt_timings(job: dict[str, Any]) -> dict[str, int]:
    """Milliseconds between the moments that the market noted for the last attempt."""
    attempt = job["attempts"][-1]
    # the id holds the milliseconds that the seed's `created_at` leaves out
    created = created_at_ms(job["job_id"]) / 1000
    claimed, ready, ended = moment(attempt["claimed_at"]), moment(attempt["ready_at"]), moment(job["completed_at"])
    settled = moment(job["settlement"]["settled_at"])
    return {
        "submit_to_claimed": round((claimed - created) * 1000),
        "claimed_to_running": round((ready - claimed) * 1000),
        "exit_to_paid": round((settled - ended) * 1000),
    }


def moment(text: str) -> float:
    """Seconds since the epoch of an instant as the API writes it."""
    return datetime.fromisoformat(text).timestamp()


def units(amount: str) -> int:
    """Base units of a decimal amount."""
    return int(Decimal(amount) * 10**DECIMALS)


def require(holds: bool, message: str, stack: Stack) -> None:  # noqa: FBT001 - a check reads best so
    """Raises StackError, with what the processes last said, unless it holds."""
    if not holds:
        raise StackError(f"{message}\n{stack.last_words()}")
