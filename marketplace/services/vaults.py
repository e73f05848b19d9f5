"""A wallet's vault: what it holds, and the transactions that fill and empty it. Source: api.md section 5.7."""

import asyncio
from dataclasses import dataclass

from solders.pubkey import Pubkey

from marketplace.chain.addresses import associated_token_address
from marketplace.chain.reader import TokenAccount, TokenAccountState
from marketplace.chain.transactions import CreateTokenAccount, Step
from marketplace.domain.money import AmountOverflow, MalformedAmount, format_amount, parse_amount
from marketplace.domain.quantities import Stake, Tokens
from marketplace.errors import Conflict, DetailCode, InsufficientFunds, Invalid, NothingToClaim
from marketplace.services.chain_link import ChainLink
from marketplace.services.idempotency import KeyInUse
from marketplace.services.principals import AccountPrincipal
from marketplace.services.transactions import Prepared, TransactionService


@dataclass(frozen=True, slots=True)
class VaultView:
    """What a wallet has in the program and beside it, base units. exists: whether the vault was ever opened.

    compensation_owed: in the stake token; compensations of lost attempts that the wallet has not claimed.
    """

    wallet: str
    address: str
    token_account: str
    mint: str
    decimals: int
    exists: bool
    balance: Tokens
    locked: Tokens
    wallet_balance: Tokens
    escrows_open: int
    compensation_owed: Stake
    stake_decimals: int

    @property
    def available(self) -> Tokens:
        """What an escrow may lock, or the wallet withdraw."""
        return Tokens(max(0, self.balance - self.locked))


def parse_positive_amount(field: str, text: str, decimals: int) -> Tokens:
    """Base units of an amount above zero. Raises Invalid naming the field."""
    try:
        units = parse_amount(text, decimals)
    except MalformedAmount as error:
        raise Invalid.field(
            field, DetailCode.NOT_ALLOWED, f"must be a decimal amount with at most {decimals} places"
        ) from error
    except AmountOverflow as error:
        raise Invalid.field(field, DetailCode.OUT_OF_RANGE, "is more than the chain can hold") from error
    if units == 0:
        raise Invalid.field(field, DetailCode.OUT_OF_RANGE, "must be more than 0")
    return units


class VaultService:
    """Reads a vault and prepares deposits and withdrawals; the wallet signs them."""

    def __init__(self, link: ChainLink, transactions: TransactionService, currency: str) -> None:
        self._link = link
        self._transactions = transactions
        self.currency = currency

    async def get(self, wallet: str) -> VaultView:
        """The vault as of `confirmed`; one that was never opened is empty. Raises ChainUnavailable.

        Its amounts are of one moment: what is locked, held and beside it adds up while a deposit or an escrow lands.
        """
        facts = self._link.facts
        deployment = facts.deployment
        owner = Pubkey.from_string(wallet)
        reader, addresses = self._link.reader, self._link.calls.addresses
        address = addresses.vault(owner)
        own = associated_token_address(owner, deployment.payment_mint)
        funds, escrows = await asyncio.gather(
            reader.find_funds(owner, facts.market, own), reader.list_escrows_of_wallet(owner)
        )
        vault = funds.vault
        return VaultView(
            wallet=wallet,
            address=str(address),
            token_account=str(addresses.vault_tokens(address)),
            mint=str(deployment.payment_mint),
            decimals=deployment.payment_decimals,
            exists=vault is not None,
            balance=_movable(funds.vault_tokens),
            locked=Tokens(vault.locked) if vault is not None else Tokens(0),
            wallet_balance=_movable(funds.own_tokens),
            escrows_open=len(escrows),
            compensation_owed=Stake(vault.compensation_owed) if vault is not None else Stake(0),
            stake_decimals=deployment.stake_decimals,
        )

    async def prepare_deposit(self, caller: AccountPrincipal, key: KeyInUse, amount: str) -> Prepared:
        """[open the vault] + deposit. Raises Invalid, InsufficientFunds (402), ChainUnavailable."""
        view = await self.get(caller.wallet)
        units = parse_positive_amount("amount", amount, view.decimals)
        if units > view.wallet_balance:
            raise InsufficientFunds(
                "the wallet's own token account holds less than this; nothing was moved",
                extra=self._shortfall(units, view),
            )
        wallet = Pubkey.from_string(caller.wallet)
        steps: list[Step] = [] if view.exists else [self._link.calls.open_vault(wallet, wallet)]
        steps.append(self._link.calls.deposit(wallet, wallet, units))
        summary = f"moves {self._text(units, view)} from the wallet into its vault"
        return await self._transactions.prepare(caller, key, "vault.deposit", steps, summary)

    async def prepare_withdrawal(self, caller: AccountPrincipal, key: KeyInUse, amount: str) -> Prepared:
        """Withdraw an amount or "all" that isn't locked. Raises Invalid, Conflict, ChainUnavailable."""
        view = await self.get(caller.wallet)
        units = view.available if amount == "all" else parse_positive_amount("amount", amount, view.decimals)
        if units > view.available or units == 0:
            raise Conflict(
                f"{self._text(view.available, view)} can be withdrawn now, {self._text(view.locked, view)} is locked "
                "by open escrows and comes free as they settle; nothing was moved",
                extra={
                    "available": format_amount(view.available, view.decimals),
                    "locked": format_amount(view.locked, view.decimals),
                    "currency": self.currency,
                },
            )
        wallet = Pubkey.from_string(caller.wallet)
        mint = self._link.facts.deployment.payment_mint
        own = await self._link.reader.find_token_account(associated_token_address(wallet, mint))
        steps: list[Step] = [] if own is not None else [CreateTokenAccount(payer=wallet, owner=wallet, mint=mint)]
        steps.append(self._link.calls.withdraw(wallet, units))
        summary = f"moves {self._text(units, view)} from the vault to the wallet"
        return await self._transactions.prepare(caller, key, "vault.withdraw", steps, summary)

    async def prepare_compensation(self, caller: AccountPrincipal, key: KeyInUse) -> Prepared:
        """Pay out all compensations. Raises NothingToClaim, ChainUnavailable."""
        earlier = await self._transactions.find_prepared(caller, key)
        if earlier is not None:
            # What it pays out is gone from the books once it has landed.
            return earlier
        view = await self.get(caller.wallet)
        if not view.compensation_owed:
            raise NothingToClaim(
                "no compensation waits for this wallet: they come when a lost attempt's contest closes"
            )
        wallet = Pubkey.from_string(caller.wallet)
        mint = self._link.facts.deployment.stake_mint
        own = await self._link.reader.find_token_account(associated_token_address(wallet, mint))
        steps: list[Step] = [] if own is not None else [CreateTokenAccount(payer=wallet, owner=wallet, mint=mint)]
        steps.append(self._link.calls.claim_compensation(wallet))
        owed = format_amount(view.compensation_owed, view.stake_decimals)
        summary = f"pays {owed} stake tokens of compensations for lost attempts to the wallet"
        return await self._transactions.prepare(caller, key, "vault.compensation", steps, summary)

    def _shortfall(self, units: Tokens, view: VaultView) -> dict[str, object]:
        return {
            "required": format_amount(units, view.decimals),
            "available": format_amount(view.available, view.decimals),
            "wallet_balance": format_amount(view.wallet_balance, view.decimals),
            "shortfall": format_amount(units - view.wallet_balance, view.decimals),
            "currency": self.currency,
            "missing": "payment_token",
        }

    def _text(self, units: int, view: VaultView) -> str:
        return f"{format_amount(units, view.decimals)} {self.currency}"


def _movable(account: TokenAccount | None) -> Tokens:
    """What can be moved out of a token account: nothing of one that is absent or frozen."""
    usable = account is not None and account.state is TokenAccountState.INITIALIZED
    return Tokens(account.amount if account is not None and usable else 0)
