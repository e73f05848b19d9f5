"""One JSON-RPC call from the command line, with nothing but the standard library: commands start fast."""

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

from marketplace.localnet.errors import FaucetRefused, NotRunning


def call(url: str, method: str, params: list[Any], timeout_s: float = 5) -> Any:
    """The result. Raises NotRunning when nobody answers, FaucetRefused when the answer is an error."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise NotRunning(f"{url} is no http:// address of a localnet.")
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    try:
        connection.request("POST", parts.path or "/", body, {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotRunning(f"nobody answers at {url} ({error}): is `reaver-localnet start` running?") from error
    finally:
        connection.close()
    if "error" in answer:
        raise FaucetRefused(str(answer["error"].get("message")))
    return answer["result"]
