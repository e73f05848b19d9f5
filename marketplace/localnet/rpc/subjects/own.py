"""The methods that no cluster has: what this chain is made of, and gifts of all its tokens."""

from typing import Any

import orjson

from marketplace.localnet.errors import GiftDropped
from marketplace.localnet.faucet import LAMPORTS_MOST, Gift, TokenGift
from marketplace.localnet.outcome import error_sentence
from marketplace.localnet.rpc.envelope import INTERNAL_ERROR, RpcError, invalid_params
from marketplace.localnet.rpc.params import Params
from marketplace.localnet.rpc.reading import Method, Reading


class OwnMethods(Reading):
    def table(self) -> dict[str, Method]:
        return {
            "localnetInfo": Method(lambda _: self.localnet_info(), 0, 0),
            "localnetFaucet": Method(self.localnet_faucet, 2, 2),
        }

    def localnet_info(self) -> dict[str, Any]:
        identity = self._chain.identity
        return {
            "genesisHash": identity.genesis_hash,
            "programId": str(identity.program_id),
            "paymentMint": str(identity.payment_mint),
            "paymentDecimals": identity.payment_decimals,
            "stakeMint": str(identity.stake_mint),
            "stakeDecimals": identity.stake_decimals,
            "mintAuthority": str(identity.mint_authority),
            "slotMs": identity.slot_ms,
            "finalitySlots": identity.finality_slots,
        }

    def localnet_faucet(self, params: Params) -> dict[str, Any]:
        """[wallet, {"lamports", "payment", "stake"}] in base units → the signature of one transaction with all."""
        wallet, config = params.pubkey(0), params.required_config(1, "Gift")
        identity = self._chain.identity
        amounts = {name: config.integer(name) or 0 for name in ("lamports", "payment", "stake")}
        if max(amounts.values()) > LAMPORTS_MOST:
            raise invalid_params("Invalid params: the faucet can't give that much.")
        gift = Gift(
            amounts["lamports"],
            (TokenGift(identity.payment_mint, amounts["payment"]), TokenGift(identity.stake_mint, amounts["stake"])),
        )
        if gift.is_empty:
            raise invalid_params("Invalid params: name at least one of `lamports`, `payment`, `stake`.")
        try:
            signature = self._chain.give(wallet, gift)
        except GiftDropped as dropped:
            raise RpcError(INTERNAL_ERROR, str(dropped)) from dropped
        row = self._chain.journal.find_summary(signature)
        if row is not None and row.error is not None:
            reason = error_sentence(orjson.loads(row.error))
            raise RpcError(INTERNAL_ERROR, f"the gift failed: {reason} (transaction {signature})")
        return {"signature": str(signature), "slot": self._bank.now.slot}
