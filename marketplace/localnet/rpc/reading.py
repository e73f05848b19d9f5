"""What the methods of all subjects share: the chain, contexts and slots, and accounts as JSON."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

from marketplace.localnet.chain import Chain
from marketplace.localnet.rpc.accounts import account_json, require_encodable
from marketplace.localnet.rpc.envelope import INVALID_PARAMS, MIN_CONTEXT_SLOT_NOT_REACHED, RpcError, invalid_params
from marketplace.localnet.rpc.params import Config, Encoding, Params
from marketplace.localnet.slots import Commitment
from marketplace.localnet.tokens import Mint, parse_holding, parse_mint

# LiteSVM of solders 0.26 follows Agave 2.2's rules.
API_VERSION: Final = "2.2.0"


@dataclass(frozen=True, slots=True)
class Method:
    """A method, and how many parameters it takes at least and at most."""

    run: Callable[[Params], Any]
    least: int
    most: int

    def call(self, params: Params) -> Any:
        """The result. Raises RpcError; too few parameters are noticed where one is read."""
        if len(params) <= self.most:
            return self.run(params)
        if self.most == 0:
            raise RpcError(INVALID_PARAMS, "Invalid parameters: No parameters were expected")
        if self.least == self.most:
            raise invalid_params(f"Invalid params: invalid length {len(params)}, expected fewer elements in array.")
        raise RpcError(
            INVALID_PARAMS,
            f"Invalid parameters: Expected from {self.least} to {self.most} parameters.",
            f'"Got: {len(params)}"',
        )


class Reading:
    """One chain, read by methods. The chain has been ticked before any of them runs."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._bank = chain.bank

    @property
    def _node(self) -> str:
        """The only node's identity: the key that gives."""
        return str(self._chain.benefactor.faucet.pubkey())

    def _account_json(
        self,
        address: Pubkey,
        account: Account | None,
        config: Config,
        default: Encoding,
    ) -> dict[str, Any] | None:
        encoding, data_slice = config.encoding(default), config.data_slice()
        if account is None:
            return None
        require_encodable(account, encoding, data_slice)
        mint: Mint | None = None
        if encoding is Encoding.JSON_PARSED:
            holding = parse_holding(account)
            if holding is not None:
                mint = parse_mint(self._bank.account(holding.mint, Commitment.PROCESSED))
        return account_json(address, account, encoding, data_slice, mint)

    def _with_context(self, config: Config, value: Any) -> dict[str, Any]:
        return self._in_context(self._slot(config), value)

    def _in_context(self, slot: int, value: Any) -> dict[str, Any]:
        return {"context": {"apiVersion": API_VERSION, "slot": slot}, "value": value}

    def _slot(self, config: Config) -> int:
        return self._slot_in(config, config.commitment())

    def _slot_in(self, config: Config, commitment: Commitment) -> int:
        slot = self._bank.slot_at(commitment)
        self._check_context(config, slot)
        return slot

    def _check_context(self, config: Config, slot: int) -> None:
        least = config.integer("minContextSlot")
        if least is not None and slot < least:
            raise RpcError(
                MIN_CONTEXT_SLOT_NOT_REACHED,
                "Minimum context slot has not been reached",
                {"contextSlot": slot},
            )
