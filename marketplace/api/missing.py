"""What a 404 says of an id in a path: what was looked for, and what lists those there are.

The words follow from the path alone, so that an id that nobody has and one that somebody else has are answered alike.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from marketplace.errors import MarketError, NotFound
from marketplace.redaction import echo


@dataclass(frozen=True, slots=True)
class _Kind:
    """word: what it is called. listed: how to see those there are."""

    word: str
    listed: str


_KINDS: Final = {
    "job_id": _Kind("job", "GET /v1/jobs lists yours"),
    "group_id": _Kind("group", "GET /v1/groups lists yours"),
    "quote_id": _Kind("quote", "a quote is kept until a day after it expired, and POST /v1/quote gives another"),
    "file_id": _Kind("file", "GET /v1/files lists yours"),
    "upload_id": _Kind("upload", "one is dropped after 24 hours, and POST /v1/files/uploads begins another"),
    "key_id": _Kind("API key", "GET /v1/api-keys lists yours"),
    "webhook_id": _Kind("webhook", "GET /v1/webhooks lists yours"),
    "credential_id": _Kind("credential", "GET /v1/credentials lists yours"),
    "registry_auth_id": _Kind("registry login", "GET /v1/registry-auth lists yours"),
    "auth_id": _Kind("registry login", "GET /registry-auth lists yours"),
    "node_id": _Kind("node", "GET /v1/nodes lists those with room, ?status=active all that run"),
    "aid": _Kind("allocation", "the node's next heartbeat says which are its own"),
    "address": _Kind("escrow", "GET /v1/escrows lists those of your wallet that are open"),
    "signature": _Kind("transaction", "only those relayed here for your account are known"),
}
"""By the placeholder's name. What else a path may name says itself what it is."""


@dataclass(frozen=True, slots=True)
class Sought:
    """What a request's path names. id: as it was given."""

    kind: _Kind
    id: str

    def not_found(self) -> NotFound:
        """The same for an id that is unknown, malformed, or another account's."""
        word = self.kind.word
        return NotFound(
            f"there is no {word} {echo(self.id)} of yours here; {self.kind.listed}"
            if word not in _ANYBODYS
            else f"there is no {word} {echo(self.id)} here; {self.kind.listed}",
            extra={"resource": word},
        )


_ANYBODYS: Final = frozenset({"node"})


def sought_by(named: Mapping[str, str]) -> Sought | None:
    """What the placeholders of a path name, the last one first; None where no 404 would be about it."""
    for name in reversed(list(named)):
        if name in _KINDS:
            return Sought(_KINDS[name], named[name])
    return None


def is_bare(error: MarketError) -> bool:
    """Whether it says no more than that there is nothing: whoever raised it didn't know what was asked for."""
    return type(error) is NotFound and error.message == NotFound().message and not error.extra
