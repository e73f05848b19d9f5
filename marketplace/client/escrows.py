"""Escrows of one wallet, and getting back what lies in one that nobody works for."""

from marketplace.chain.addresses import parse_address
from marketplace.chain.errors import NotCanonical
from marketplace.client.account_models import Escrow, EscrowList
from marketplace.client.calls import Calls, page, segment
from marketplace.client.errors import MalformedAnswer
from marketplace.client.payments import Consent, Paid, Payments

_ESCROWS = "/v1/escrows"


class EscrowCalls:
    """List, read, cancel."""

    def __init__(self, calls: Calls, payments: Payments) -> None:
        self._calls = calls
        self._payments = payments

    async def list_escrows(
        self, *, state: str | None = None, limit: int | None = None, offset: int | None = None
    ) -> EscrowList:
        """Own escrows that are open on chain. state: only these."""
        params = ({} if state is None else {"state": state}) | page(limit, offset)
        return (await self._calls.get(_ESCROWS, params)).read(EscrowList)

    async def get(self, address: str) -> Escrow:
        """One escrow."""
        return (await self._calls.get(f"{_ESCROWS}/{segment(address)}")).read(Escrow)

    async def cancel(self, address: str, consent: Consent | None = None) -> Paid:
        """Close an escrow that no node is assigned to; all of it comes back into the vault.

        Raises TransactionRefused when what is to be signed cancels another one, Declined, ApiError.
        """
        escrow = await self.get(address)
        try:
            opener = parse_address(escrow.opener)
        except NotCanonical as error:
            raise MalformedAnswer(f"{escrow.opener!r} is no address") from error
        return await self._payments.pay(
            f"{_ESCROWS}/{segment(address)}/cancel",
            None,
            lambda guard, raw: guard.cancel_escrow(raw, address, opener, escrow.nonce),
            consent=consent,
        )
