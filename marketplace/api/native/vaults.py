"""`/v1/vault`: a wallet's money in the program. Source: api.md section 5.7."""

from typing import Annotated

from pydantic import Field

from marketplace.api.fields import All, AmountText, DecimalText, RequestModel, ResponseModel
from marketplace.api.native.prepared import PreparedResponse, prepared_response
from marketplace.api.routes import Call, Route, reading, scope
from marketplace.domain.money import format_amount
from marketplace.errors import (
    ChainUnavailable,
    Conflict,
    InsufficientFunds,
    Invalid,
    NothingToClaim,
    Starting,
    TransactionRejected,
)
from marketplace.services.principals import Scope
from marketplace.services.vaults import VaultService


class VaultResponse(ResponseModel):
    """runway_seconds: how long running work can be extended from this vault; null where nothing is extended.
    compensation_owed: stake tokens for lost attempts that can be claimed.
    """

    wallet: str
    vault: str
    token_account: str
    mint: str
    currency: str
    decimals: int
    balance: DecimalText
    locked: DecimalText
    available: DecimalText
    wallet_balance: DecimalText
    escrows_open: int
    runway_seconds: int | None
    compensation_owed: DecimalText


class DepositRequest(RequestModel):
    amount: AmountText


class WithdrawRequest(RequestModel):
    amount: Annotated[All | AmountText, Field(union_mode="left_to_right")]


def vault_routes(vaults: VaultService) -> list[Route]:
    """Read, deposit, withdraw, claim compensations."""

    async def get_vault(call: Call) -> VaultResponse:
        view = await vaults.get(call.account.wallet)
        return VaultResponse(
            wallet=view.wallet,
            vault=view.address,
            token_account=view.token_account,
            mint=view.mint,
            currency=vaults.currency,
            decimals=view.decimals,
            balance=format_amount(view.balance, view.decimals),
            locked=format_amount(view.locked, view.decimals),
            available=format_amount(view.available, view.decimals),
            wallet_balance=format_amount(view.wallet_balance, view.decimals),
            escrows_open=view.escrows_open,
            # Containers are not extended: nothing draws on the vault as time passes.
            runway_seconds=None,
            compensation_owed=format_amount(view.compensation_owed, view.stake_decimals),
        )

    async def deposit(call: Call, body: DepositRequest) -> PreparedResponse:
        return prepared_response(await vaults.prepare_deposit(call.account, call.idempotency, body.amount))

    async def withdraw(call: Call, body: WithdrawRequest) -> PreparedResponse:
        return prepared_response(await vaults.prepare_withdrawal(call.account, call.idempotency, body.amount))

    async def claim_compensation(call: Call) -> PreparedResponse:
        return prepared_response(await vaults.prepare_compensation(call.account, call.idempotency))

    chain = (ChainUnavailable, Starting)
    return [
        Route("GET", "/v1/vault", get_vault, "The wallet's vault", reading(Scope.MONEY), errors=chain),
        Route(
            "POST",
            "/v1/vault/deposit",
            deposit,
            "A deposit to sign",
            scope(Scope.MONEY),
            idempotent=True,
            keep_answer=False,
            errors=(Invalid, InsufficientFunds, TransactionRejected, *chain),
        ),
        Route(
            "POST",
            "/v1/vault/withdraw",
            withdraw,
            "A withdrawal to sign",
            scope(Scope.MONEY),
            idempotent=True,
            keep_answer=False,
            errors=(Invalid, Conflict, TransactionRejected, *chain),
        ),
        Route(
            "POST",
            "/v1/vault/claim-compensation",
            claim_compensation,
            "A claim of compensations to sign",
            scope(Scope.MONEY),
            idempotent=True,
            keep_answer=False,
            errors=(NothingToClaim, TransactionRejected, *chain),
        ),
    ]
