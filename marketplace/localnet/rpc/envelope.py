"""JSON-RPC 2.0: from bytes to a call and back, single or batch, with Agave's error texts."""

from collections.abc import Callable
from typing import Any, Final

import orjson

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
# Specified: Agave, rpc-client-api/src/custom_error.rs.
PREFLIGHT_FAILED: Final = -32002
BLOCK_NOT_AVAILABLE: Final = -32004
UNSUPPORTED_VERSION: Final = -32015
MIN_CONTEXT_SLOT_NOT_REACHED: Final = -32016


class RpcError(Exception):
    """An error answer: code, message and, for some, data."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.data = data

    def as_json(self) -> dict[str, Any]:
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.data is not None:
            error["data"] = self.data
        return error


def invalid_params(message: str) -> RpcError:
    return RpcError(INVALID_PARAMS, message)


Call = Callable[[str, list[Any]], Any]


def answer(body: bytes | str, call: Call) -> bytes | None:
    """Answer a request or a batch by `call(method, params)`; None where nothing is to be said."""
    try:
        request = orjson.loads(body)
    except orjson.JSONDecodeError:
        return orjson.dumps(_failure(RpcError(PARSE_ERROR, "Parse error"), None))
    if isinstance(request, list):
        if not request:
            return orjson.dumps(_failure(RpcError(INVALID_REQUEST, "Invalid request"), None))
        answers = [each for each in (_answer_one(item, call) for item in request) if each is not None]
        return orjson.dumps(answers) if answers else None
    single = _answer_one(request, call)
    return orjson.dumps(single) if single is not None else None


def _answer_one(request: Any, call: Call) -> dict[str, Any] | None:
    if not isinstance(request, dict):
        return _failure(RpcError(INVALID_REQUEST, "Invalid request"), None)
    request_id = request.get("id")
    method, params = request.get("method"), request.get("params")
    if (
        request.get("jsonrpc") != "2.0"
        or not isinstance(method, str)
        or not isinstance(params, list | dict | None)
        or not isinstance(request_id, str | int | float | None)
    ):
        return _failure(RpcError(INVALID_REQUEST, "Invalid request"), request_id)
    try:
        if isinstance(params, dict):
            raise invalid_params("Invalid params: named parameters are not supported, send an array")
        result = call(method, params or [])
    except RpcError as error:
        failure = _failure(error, request_id)
        return failure if "id" in request else None
    if "id" not in request:
        return None
    return {"jsonrpc": "2.0", "result": result, "id": request_id}


def _failure(error: RpcError, request_id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": error.as_json(), "id": request_id}
