"""Slots, blocks and blockhashes. Every slot has its block here, and its height is its number."""

from typing import Any, Final

import orjson
from solders.transaction import VersionedTransaction

from marketplace.localnet.bank import SLOTS_PER_EPOCH
from marketplace.localnet.journal import TransactionRow
from marketplace.localnet.parsed.transactions import LoadedKeys, accounts_only_json
from marketplace.localnet.rpc.envelope import BLOCK_NOT_AVAILABLE, INVALID_REQUEST, RpcError, invalid_params
from marketplace.localnet.rpc.params import Params, as_hash, as_u64
from marketplace.localnet.rpc.reading import Method, Reading
from marketplace.localnet.rpc.subjects.stored import (
    check_version,
    history_commitment,
    history_config,
    named_variant,
    transaction_encoding,
    transaction_with_meta,
    version_json,
    version_limit,
)

# Specified: Agave, rpc-client-api/src/request.rs, and the largest account of the system program.
_MOST_BLOCKS: Final = 500_000
_MOST_ACCOUNT_BYTES: Final = 10 * 1024 * 1024
_DETAILS: Final = ["full", "signatures", "none", "accounts"]
# What getBlock tells of a transaction of which only the accounts are asked.
_SHORT_META: Final = (
    "err",
    "status",
    "fee",
    "preBalances",
    "postBalances",
    "preTokenBalances",
    "postTokenBalances",
)


class BlockMethods(Reading):
    def table(self) -> dict[str, Method]:
        return {
            "getSlot": Method(self.get_slot, 0, 1),
            "getBlockHeight": Method(self.get_slot, 0, 1),
            "getFirstAvailableBlock": Method(lambda _: 0, 0, 0),
            "minimumLedgerSlot": Method(lambda _: 0, 0, 0),
            "getTransactionCount": Method(self.get_transaction_count, 0, 1),
            "getEpochInfo": Method(self.get_epoch_info, 0, 1),
            "getBlockTime": Method(self.get_block_time, 1, 1),
            "getBlocks": Method(self.get_blocks, 1, 3),
            "getBlocksWithLimit": Method(self.get_blocks_with_limit, 2, 3),
            "getBlockCommitment": Method(self.get_block_commitment, 1, 1),
            "getBlock": Method(self.get_block, 1, 2),
            "getLatestBlockhash": Method(self.get_latest_blockhash, 0, 1),
            "isBlockhashValid": Method(self.is_blockhash_valid, 1, 2),
            "getMinimumBalanceForRentExemption": Method(self.get_minimum_balance, 1, 2),
        }

    def get_slot(self, params: Params) -> int:
        return self._slot(params.config(0))

    def get_transaction_count(self, params: Params) -> int:
        self._slot(params.config(0))
        return self._chain.journal.count_transactions()

    def get_epoch_info(self, params: Params) -> dict[str, int]:
        slot = self._slot(params.config(0))
        return {
            "absoluteSlot": slot,
            "blockHeight": slot,
            "epoch": slot // SLOTS_PER_EPOCH,
            "slotIndex": slot % SLOTS_PER_EPOCH,
            "slotsInEpoch": SLOTS_PER_EPOCH,
            "transactionCount": self._chain.journal.count_transactions(),
        }

    def get_block_time(self, params: Params) -> int:
        slot = params.u64(0)
        unix_time = self._chain.unix_time_of(slot)
        if unix_time is None:
            raise _not_available(slot)
        return unix_time

    def get_blocks(self, params: Params) -> list[int]:
        """[first, last or null, config] or [first, config]."""
        first = params.u64(0)
        second = params.optional_raw(1)
        config = params.config(1 if isinstance(second, dict) else 2)
        newest = self._slot_in(config, history_commitment(config))
        if second is None or isinstance(second, dict):
            last = min(newest, first + _MOST_BLOCKS)
        else:
            last = min(newest, as_u64(second))
        if last - first > _MOST_BLOCKS:
            raise invalid_params(f"Slot range too large; max {_MOST_BLOCKS}")
        return list(range(first, last + 1))

    def get_blocks_with_limit(self, params: Params) -> list[int]:
        first, limit, config = params.u64(0), params.u64(1, "usize"), params.config(2)
        newest = self._slot_in(config, history_commitment(config))
        if limit > _MOST_BLOCKS:
            raise invalid_params(f"Limit too large; max {_MOST_BLOCKS}")
        return list(range(first, min(newest, first + limit - 1) + 1))

    def get_block_commitment(self, params: Params) -> dict[str, Any]:
        """Nobody votes, so no stake stands behind any block."""
        params.u64(0)
        return {"commitment": None, "totalStake": 0}

    def get_block(self, params: Params) -> dict[str, Any]:
        slot, config = params.u64(0), history_config(params, 1)
        encoding = transaction_encoding(config)
        detail = named_variant(config, "transactionDetails", _DETAILS) or "full"
        newest = version_limit(config)
        if slot > self._bank.slot_at(history_commitment(config)):
            raise _not_available(slot)
        shown: dict[str, Any] = {
            "blockhash": str(self._bank.blockhash_of(slot)),
            "previousBlockhash": str(self._bank.blockhash_of(slot - 1)) if slot else "1" * 32,
            "parentSlot": max(0, slot - 1),
            "blockHeight": slot,
            "blockTime": self._chain.unix_time_of(slot),
        }
        if config.raw("rewards") is not False:
            shown["rewards"] = []  # fees are burned: there is no leader to earn them
        rows = self._chain.journal.list_slots(slot, slot) if detail != "none" else []
        if detail in ("full", "accounts"):
            for row in rows:
                check_version(row, newest)
        if detail == "signatures":
            shown["signatures"] = [str(row.signature) for row in rows]
        elif detail == "full":
            shown["transactions"] = [
                {**transaction_with_meta(row, encoding), **version_json(row, newest)} for row in rows
            ]
        elif detail == "accounts":
            shown["transactions"] = [_accounts_only(row, newest) for row in rows]
        return shown

    def get_latest_blockhash(self, params: Params) -> dict[str, Any]:
        config = params.config(0)
        blockhash, last_valid = self._bank.blockhash(config.commitment())
        return self._with_context(config, {"blockhash": str(blockhash), "lastValidBlockHeight": last_valid})

    def is_blockhash_valid(self, params: Params) -> dict[str, Any]:
        blockhash, config = as_hash(params.text(0)), params.config(1)
        return self._with_context(config, self._bank.is_blockhash_valid(blockhash, config.commitment()))

    def get_minimum_balance(self, params: Params) -> int:
        size = params.u64(0, "usize")
        if size > _MOST_ACCOUNT_BYTES:
            raise RpcError(INVALID_REQUEST, "Invalid request")
        params.config(1, "CommitmentConfig")
        return self._bank.minimum_balance(size)


def _not_available(slot: int) -> RpcError:
    return RpcError(BLOCK_NOT_AVAILABLE, f"Block not available for slot {slot}")


def _accounts_only(row: TransactionRow, newest: int | None) -> dict[str, Any]:
    transaction, meta = VersionedTransaction.from_bytes(row.wire), orjson.loads(row.meta)
    keys = LoadedKeys(transaction.message, meta["loadedAddresses"])
    return {
        "transaction": accounts_only_json(transaction, keys),
        "meta": {name: meta[name] for name in _SHORT_META} | {"rewards": []},
        **version_json(row, newest),
    }
