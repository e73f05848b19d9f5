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
NO_SNAPSHOT: Final = -32008
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
_FIELDS: Final = frozenset({"jsonrpc", "method", "params", "id"})
_ID_MOST: Final = 2**64 - 1


def answer(body: bytes | str, call: Call) -> bytes | None:
    """Answer a request or a batch by `call(method, params)`; None where nothing is to be said.

    What is malformed is answered as Agave's server (jsonrpc-core) does: a batch with one bad item fails whole.
    """
    try:
        request = orjson.loads(body)
        items = request if isinstance(request, list) else [request]
        for item in items:
            _check_form(item)
    except (orjson.JSONDecodeError, _Malformed):
        return orjson.dumps(_failure(RpcError(PARSE_ERROR, "Parse error"), None))
    answers = [each for each in (_answer_one(item, call) for item in items) if each is not None]
    if not answers:
        return None
    return orjson.dumps(answers if isinstance(request, list) else answers[0])


class _Malformed(Exception):
    """Not even an invalid request: no object, or an id that is none. `answer` catches it."""


def _check_form(item: Any) -> None:
    if not isinstance(item, dict):
        raise _Malformed
    request_id = item.get("id")
    if request_id is None or isinstance(request_id, str):
        return
    if isinstance(request_id, bool) or not isinstance(request_id, int) or not 0 <= request_id <= _ID_MOST:
        raise _Malformed


def _answer_one(request: dict[str, Any], call: Call) -> dict[str, Any] | None:
    request_id = request.get("id")
    method, params, version = request.get("method"), request.get("params"), request.get("jsonrpc")
    if (
        version not in ("2.0", None)
        or not isinstance(method, str)
        or not isinstance(params, list | dict | None)
        or not request.keys() <= _FIELDS
    ):
        return _failure(RpcError(INVALID_REQUEST, "Invalid request"), request_id)
    try:
        result = _called(version, method, params, call)
    except RpcError as error:
        if "id" not in request:
            return None
        failure = _failure(error, request_id)
        if version is None:
            del failure["jsonrpc"]  # in the form of the request
        return failure
    if "id" not in request:
        return None
    return {"jsonrpc": "2.0", "result": result, "id": request_id}


def _called(version: str | None, method: str, params: list[Any] | dict[str, Any] | None, call: Call) -> Any:
    if version is None:
        raise RpcError(INVALID_REQUEST, "Unsupported JSON-RPC protocol version")
    if isinstance(params, dict):
        raise invalid_params("`params` should be an array")
    return call(method, params or [])


def _failure(error: RpcError, request_id: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "error": error.as_json(), "id": request_id}
