"""`/v1/me`: who the credential belongs to. Source: api.md sections 4.4 and 4.5."""

from marketplace.api.fields import DecimalText, ResponseModel, SecondsInstant
from marketplace.api.routes import LOGGED_IN, Call, Route
from marketplace.domain.money import format_amount
from marketplace.errors import ChainUnavailable, Starting
from marketplace.services.logins import LoginService
from marketplace.services.vaults import VaultService


class WalletEntry(ResponseModel):
    address: str
    primary: bool
    linked_at: SecondsInstant


class AccountResponse(ResponseModel):
    """balance: what the primary wallet's vault has free; null while the chain can't be asked."""

    id: str
    name: str | None
    email: str | None
    created_at: SecondsInstant
    wallet: str
    wallets: list[WalletEntry]
    scopes: list[str]
    balance: DecimalText | None
    currency: str
    email_verified: bool


def account_routes(logins: LoginService, vaults: VaultService) -> list[Route]:
    """The caller's own account."""

    async def me(call: Call) -> AccountResponse:
        account = await logins.get_account(call.account_id)
        primary = account.wallets[0].address
        try:
            view = await vaults.get(primary)
            balance = format_amount(view.available, view.decimals)
        except (ChainUnavailable, Starting):
            balance = None
        return AccountResponse(
            id=account.id,
            name=None,
            email=None,
            created_at=account.created_at,
            wallet=primary,
            wallets=[
                WalletEntry(address=entry.address, primary=entry.primary, linked_at=entry.linked_at)
                for entry in account.wallets
            ],
            scopes=sorted(call.account.scopes),
            balance=balance,
            currency=vaults.currency,
            email_verified=False,
        )

    return [Route("GET", "/v1/me", me, "The caller's account", LOGGED_IN)]
