"""What ends a step of the daemon, and who catches it. (The engine's own errors: node/runtime/errors.py.)

NodeError                what happened and what to do; never raised itself
├─ ConfigUnusable        the configuration or a key is wrong: the process does not start
├─ MarketUnavailable     the market does not answer; nothing is known of what it did
├─ InputUnavailable      what a job is to read can't be had; nothing of it is paid
├─ MarketRefused         the market answered no: code and message as it gave them
└─ NotTrusted            the market, the chain or a transaction says something else than what is pinned here
"""


class NodeError(Exception):
    """Base of the tree."""


class ConfigUnusable(NodeError):
    """The configuration can't be used; the message names each wrong setting."""


class MarketUnavailable(NodeError):
    """The market does not answer. Running work goes on; the node keeps asking."""


class MarketRefused(NodeError):
    """The market answered no.

    status: HTTP status, 0 on the control channel. code: of the market's table of errors. body: what else it said.
    """

    def __init__(self, code: str, message: str, *, status: int = 0, body: dict[str, object] | None = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.body = body or {}


class InputUnavailable(NodeError):
    """The job's input can't be had: gone, too large for its disk, not what its digest says, or its host refuses."""


class NotTrusted(NodeError):
    """What was received contradicts what this node was told to trust; it was not acted upon."""
