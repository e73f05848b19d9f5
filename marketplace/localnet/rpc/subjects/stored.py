"""Stored transactions as JSON, and the configuration that getTransaction and getBlock share."""

import base64
from typing import Any, Final

import base58
import orjson
from solders.transaction import VersionedTransaction

from marketplace.localnet.journal import TransactionRow
from marketplace.localnet.parsed.transactions import LoadedKeys, parsed_meta_json, parsed_transaction_json
from marketplace.localnet.rendering import transaction_json
from marketplace.localnet.rpc.envelope import UNSUPPORTED_VERSION, RpcError, invalid_params
from marketplace.localnet.rpc.params import Config, Params
from marketplace.localnet.slots import Commitment

_ENCODINGS: Final = ["binary", "base64", "base58", "json", "jsonParsed"]
_VERSION_MOST: Final = 255


def history_config(params: Params, index: int) -> Config:
    """The older form gives the encoding alone, as a string."""
    given = params.optional_raw(index)
    if isinstance(given, str):
        return Config({"encoding": given})
    if given is not None and not isinstance(given, dict):
        raise _no_variant()
    return Config(given or {})


def history_commitment(config: Config) -> Commitment:
    """What is stored is at least confirmed."""
    commitment = config.commitment()
    if commitment is Commitment.PROCESSED:
        raise invalid_params("Method does not support commitment below `confirmed`")
    return commitment


def transaction_encoding(config: Config) -> str:
    return named_variant(config, "encoding", _ENCODINGS) or "json"


def named_variant(config: Config, name: str, known: list[str]) -> str | None:
    """Agave reads this configuration as one of two forms, so its message can't say what is wrong with which."""
    given = config.raw(name)
    if given is None:
        return None
    if not isinstance(given, str) or given not in known:
        raise _no_variant()
    return given


def version_limit(config: Config) -> int | None:
    """The newest transaction version the client understands; None: only the unversioned ones."""
    given = config.raw("maxSupportedTransactionVersion")
    if given is None:
        return None
    if isinstance(given, bool) or not isinstance(given, int) or not 0 <= given <= _VERSION_MOST:
        raise _no_variant()
    return given


def check_version(row: TransactionRow, newest: int | None) -> None:
    """Raises RpcError for a version that the client doesn't understand."""
    if row.version == "legacy" or (newest is not None and int(row.version) <= newest):
        return
    raise RpcError(
        UNSUPPORTED_VERSION,
        f"Transaction version ({row.version}) is not supported by the requesting client. "
        "Please try the request again with the following configuration parameter: "
        f'"maxSupportedTransactionVersion": {row.version}',
    )


def version_json(row: TransactionRow, newest: int | None) -> dict[str, Any]:
    """Told only to who says that he knows versions."""
    if newest is None:
        return {}
    return {"version": "legacy" if row.version == "legacy" else int(row.version)}


def transaction_with_meta(row: TransactionRow, encoding: str) -> dict[str, Any]:
    """`transaction` and `meta` in one of the encodings."""
    meta = orjson.loads(row.meta)
    if encoding in ("json", "jsonParsed"):
        transaction = VersionedTransaction.from_bytes(row.wire)
        if encoding == "json":
            return {"transaction": transaction_json(transaction), "meta": meta}
        keys = LoadedKeys(transaction.message, meta["loadedAddresses"])
        return {"transaction": parsed_transaction_json(transaction, keys), "meta": parsed_meta_json(meta, keys)}
    if encoding == "base64":
        return {"transaction": [base64.b64encode(row.wire).decode(), encoding], "meta": meta}
    text = base58.b58encode(row.wire).decode()
    return {"transaction": text if encoding == "binary" else [text, encoding], "meta": meta}


def _no_variant() -> RpcError:
    return invalid_params("Invalid params: data did not match any variant of untagged enum RpcEncodingConfigWrapper.")
