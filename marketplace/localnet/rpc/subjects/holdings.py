"""Accounts and what they hold: lamports, bytes, tokens."""

from collections.abc import Callable
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

from marketplace.localnet.rpc.accounts import as_filters, single_entry
from marketplace.localnet.rpc.envelope import invalid_params
from marketplace.localnet.rpc.params import Config, Encoding, Params, as_pubkey, as_text, as_variant
from marketplace.localnet.rpc.reading import Method, Reading
from marketplace.localnet.tokens import TOKEN_PROGRAM, TokenHolding, parse_holding, parse_mint, ui_amount

# Specified: Agave, rpc-client-api/src/request.rs and rpc/src/rpc.rs, NUM_LARGEST_ACCOUNTS.
_MOST_ACCOUNTS: Final = 100
_MOST_LARGEST: Final = 20
_ACCOUNT_CONFIG: Final = "RpcAccountInfoConfig"


class AccountMethods(Reading):
    def table(self) -> dict[str, Method]:
        return {
            "getBalance": Method(self.get_balance, 1, 2),
            "getAccountInfo": Method(self.get_account_info, 1, 2),
            "getMultipleAccounts": Method(self.get_multiple_accounts, 1, 2),
            "getProgramAccounts": Method(self.get_program_accounts, 1, 2),
            "getTokenAccountBalance": Method(self.get_token_account_balance, 1, 2),
            "getTokenAccountsByOwner": Method(self.get_token_accounts_by_owner, 2, 3),
            "getTokenAccountsByDelegate": Method(self.get_token_accounts_by_delegate, 2, 3),
            "getTokenSupply": Method(self.get_token_supply, 1, 2),
            "getTokenLargestAccounts": Method(self.get_token_largest_accounts, 1, 2),
        }

    def get_balance(self, params: Params) -> dict[str, Any]:
        text, config = params.text(0), params.config(1)
        account = self._bank.account(as_pubkey(text), config.commitment())
        return self._with_context(config, account.lamports if account is not None else 0)

    def get_account_info(self, params: Params) -> dict[str, Any]:
        text, config = params.text(0), params.config(1, _ACCOUNT_CONFIG)
        address, slot = as_pubkey(text), self._slot(config)
        account = self._bank.account(address, config.commitment())
        return self._in_context(slot, self._account_json(address, account, config, Encoding.BINARY))

    def get_multiple_accounts(self, params: Params) -> dict[str, Any]:
        texts = [as_text(each) for each in params.list_of(0)]
        config = params.config(1, _ACCOUNT_CONFIG)
        if len(texts) > _MOST_ACCOUNTS:
            raise invalid_params(f"Too many inputs provided; max {_MOST_ACCOUNTS}")
        commitment = config.commitment()
        addresses, slot = [as_pubkey(each) for each in texts], self._slot(config)
        shown = [
            self._account_json(address, self._bank.account(address, commitment), config, Encoding.BASE64)
            for address in addresses
        ]
        return self._in_context(slot, shown)

    def get_program_accounts(self, params: Params) -> Any:
        text, config = params.text(0), params.config(1, "RpcProgramAccountsConfig")
        program, filters = as_pubkey(text), as_filters(config.raw("filters"))
        in_context, slot = config.boolean("withContext"), self._slot(config)
        if program == TOKEN_PROGRAM:
            filters.check_token_keys()
        found = [item for item in self._bank.accounts_of(program, config.commitment()) if filters.match(item[1])]
        if config.raw("sortResults") is not False:
            found.sort(key=_by_address)
        shown = [
            {"pubkey": str(address), "account": self._account_json(address, account, config, Encoding.BINARY)}
            for address, account in found
        ]
        return self._in_context(slot, shown) if in_context else shown

    # Tokens -----------------------------------------------------------------------------------------------

    def get_token_account_balance(self, params: Params) -> dict[str, Any]:
        config = params.config(1, "CommitmentConfig")
        account = self._token_account(params.pubkey(0), config)
        holding = parse_holding(account)
        if holding is None:
            raise invalid_params("Invalid param: not a Token account")
        mint = parse_mint(self._bank.account(holding.mint, config.commitment()))
        if mint is None:
            raise invalid_params("Invalid param: could not find mint")
        return self._with_context(config, ui_amount(holding.amount, mint.decimals))

    def get_token_supply(self, params: Params) -> dict[str, Any]:
        config = params.config(1, "CommitmentConfig")
        account = self._token_account(params.pubkey(0), config)
        mint = parse_mint(account)
        if mint is None:
            ours = account.owner == TOKEN_PROGRAM
            raise invalid_params(f"Invalid param: {'mint could not be unpacked' if ours else 'not a Token mint'}")
        return self._with_context(config, ui_amount(mint.supply, mint.decimals))

    def get_token_largest_accounts(self, params: Params) -> dict[str, Any]:
        address, config = params.pubkey(0), params.config(1, "CommitmentConfig")
        commitment = config.commitment()
        self._require_mint(address, config)
        mint = parse_mint(self._bank.account(address, commitment))
        decimals = mint.decimals if mint is not None else 0
        held = [
            (holding.amount, str(holder))
            for holder, account in self._bank.accounts_of(TOKEN_PROGRAM, commitment)
            if (holding := parse_holding(account)) is not None and holding.mint == address
        ]
        largest = sorted(held, reverse=True)[:_MOST_LARGEST]
        shown = [{"address": holder, **ui_amount(amount, decimals)} for amount, holder in largest]
        return self._with_context(config, shown)

    def get_token_accounts_by_owner(self, params: Params) -> dict[str, Any]:
        return self._token_accounts(params, lambda holding, owner: holding.owner == owner)

    def get_token_accounts_by_delegate(self, params: Params) -> dict[str, Any]:
        return self._token_accounts(params, lambda holding, delegate: holding.delegate == delegate)

    def _token_accounts(self, params: Params, belongs: Callable[[TokenHolding, Pubkey], bool]) -> dict[str, Any]:
        params.need(2)
        text, (kind, key) = params.text(0), single_entry(params.optional_raw(1))
        as_variant(kind, ["mint", "programId"])
        key_text, config = as_text(key), params.config(2, _ACCOUNT_CONFIG)
        whose, named, slot = as_pubkey(text), as_pubkey(key_text), self._slot(config)
        if kind == "mint":
            self._require_mint(named, config)
        elif named != TOKEN_PROGRAM:
            raise invalid_params("Invalid param: unrecognized Token program id")
        shown = [
            {"pubkey": str(address), "account": self._account_json(address, account, config, Encoding.BINARY)}
            for address, account in sorted(self._bank.accounts_of(TOKEN_PROGRAM, config.commitment()), key=_by_address)
            if (holding := parse_holding(account)) is not None
            and belongs(holding, whose)
            and (kind == "programId" or holding.mint == named)
        ]
        return self._in_context(slot, shown)

    def _require_mint(self, address: Pubkey, config: Config) -> None:
        account = self._bank.account(address, config.commitment())
        if account is None:
            raise invalid_params("Invalid param: could not find mint")
        if parse_mint(account) is None:
            raise invalid_params("Invalid param: Token mint could not be unpacked")

    def _token_account(self, address: Pubkey, config: Config) -> Account:
        account = self._bank.account(address, config.commitment())
        if account is None:
            raise invalid_params("Invalid param: could not find account")
        return account


def _by_address(item: tuple[Pubkey, Account]) -> bytes:
    return bytes(item[0])
