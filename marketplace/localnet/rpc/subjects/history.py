"""What became of transactions: statuses, the transactions themselves, and the histories of addresses."""

from typing import Any, Final

import orjson

from marketplace.localnet.journal import SummaryRow
from marketplace.localnet.rendering import status_json
from marketplace.localnet.rpc.envelope import invalid_params
from marketplace.localnet.rpc.params import Params, as_signature
from marketplace.localnet.rpc.reading import Method, Reading
from marketplace.localnet.rpc.subjects.stored import (
    check_version,
    history_commitment,
    history_config,
    transaction_encoding,
    transaction_with_meta,
    version_json,
    version_limit,
)
from marketplace.localnet.slots import BLOCKHASH_SLOTS, Commitment

# Specified: Agave, rpc-client-api/src/request.rs.
_MOST_STATUSES: Final = 256
_MOST_SIGNATURES: Final = 1_000


class HistoryMethods(Reading):
    def table(self) -> dict[str, Method]:
        return {
            "getSignatureStatuses": Method(self.get_signature_statuses, 1, 2),
            "getTransaction": Method(self.get_transaction, 1, 2),
            "getSignaturesForAddress": Method(self.get_signatures_for_address, 1, 2),
        }

    def get_signature_statuses(self, params: Params) -> dict[str, Any]:
        texts = params.list_of(0, _MOST_STATUSES)
        signatures = [as_signature(each) for each in texts]
        config = params.config(1, "RpcSignatureStatusConfig")
        oldest = 0
        if not config.boolean("searchTransactionHistory"):
            oldest = self._bank.slot_at(Commitment.FINALIZED) - BLOCKHASH_SLOTS
        statuses = []
        for signature in signatures:
            row = self._chain.journal.find_summary(signature)
            statuses.append(self._status(row) if row is not None and row.slot >= oldest else None)
        return self._in_context(self._bank.slot_at(Commitment.PROCESSED), statuses)

    def _status(self, row: SummaryRow) -> dict[str, Any]:
        reached = self._bank.commitment_of(row.slot)
        error = orjson.loads(row.error) if row.error is not None else None
        return {
            "slot": row.slot,
            "confirmations": None if reached is Commitment.FINALIZED else self._bank.now.slot - row.slot,
            "err": error,
            "status": status_json(error),
            "confirmationStatus": reached.value,
        }

    def get_transaction(self, params: Params) -> dict[str, Any] | None:
        text, config = params.text(0), history_config(params, 1)
        encoding, newest = transaction_encoding(config), version_limit(config)
        signature = as_signature(text)
        commitment = history_commitment(config)
        row = self._chain.journal.find_transaction(signature)
        if row is None or row.slot > self._bank.slot_at(commitment):
            return None
        check_version(row, newest)
        return {
            "slot": row.slot,
            "blockTime": row.unix_time,
            **transaction_with_meta(row, encoding),
            **version_json(row, newest),
        }

    def get_signatures_for_address(self, params: Params) -> list[dict[str, Any]]:
        address, config = params.pubkey(0), params.config(1, "RpcSignaturesForAddressConfig")
        limit = config.integer("limit", "usize")
        if limit is None:
            limit = _MOST_SIGNATURES
        if not 1 <= limit <= _MOST_SIGNATURES:
            raise invalid_params(f"Invalid limit; max {_MOST_SIGNATURES}")
        highest = self._slot_in(config, history_commitment(config))
        before = until = None
        if config.raw("before") is not None:
            before = self._chain.journal.find_summary(as_signature(config.raw("before")))
            if before is None:
                return []  # as Agave: nothing is before what nobody knows
        if config.raw("until") is not None:
            until = self._chain.journal.find_summary(as_signature(config.raw("until")))
        rows = self._chain.journal.list_mentions(
            address,
            before=before.seq if before is not None else None,
            until=until.seq if until is not None else 0,
            highest_slot=highest,
            limit=limit,
        )
        return [
            {
                "signature": str(row.signature),
                "slot": row.slot,
                "err": orjson.loads(row.error) if row.error is not None else None,
                "memo": row.memo,
                "blockTime": row.unix_time,
                "confirmationStatus": self._bank.commitment_of(row.slot).value,
            }
            for row in rows
        ]
