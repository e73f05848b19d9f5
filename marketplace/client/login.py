"""What a wallet signs to log in: never the server's text, but one rebuilt here from checked fields.

A login text that the server chose freely could be another site's, or a transaction. So each field is compared with
what this wallet, this market's address and this moment call for, the text is rebuilt from them, and only when it
equals the offered one byte for byte is the rebuilt one signed. Source: api.md section 4.2.
"""

import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Final
from urllib.parse import urlsplit

from marketplace.client.errors import ChallengeRefused
from marketplace.client.models import Challenge
from marketplace.protocol.siws import SignInInput

STATEMENT: Final = "Sign in to Reaver. No funds move."
_LIFETIME: Final = timedelta(seconds=300)
_SKEW: Final = timedelta(minutes=10)
"""How far this machine's clock may be from the market's: stack.md section 11, where wallets warn as well."""
_NONCE: Final = re.compile(r"[1-9A-HJ-NP-Za-km-z]{22}")
_TIME: Final = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,6})?Z")


class ChainId(StrEnum):
    """The cluster as the login text names it."""

    MAINNET = "mainnet"
    DEVNET = "devnet"
    TESTNET = "testnet"
    LOCALNET = "localnet"


_CLUSTERS: Final = {
    # The first 32 characters of each genesis hash identify its cluster: CAIP-2, namespace `solana`.
    "5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp": ChainId.MAINNET,
    "EtWTRABZaYq6iMfeYKouRu166VU2xqa1": ChainId.DEVNET,
    "4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z": ChainId.TESTNET,
}


def chain_id_of(genesis_hash: str) -> ChainId:
    """The cluster with this genesis hash; any unknown one is a local network."""
    return _CLUSTERS.get(genesis_hash[:32], ChainId.LOCALNET)


def text_to_sign(challenge: Challenge, *, api_url: str, wallet: str, chain_id: ChainId, now: datetime) -> str:
    """The login text, rebuilt. Raises ChallengeRefused naming the first field that is wrong.

    api_url: the address this client was told to talk to, the only one it signs in at.
    """
    fields = challenge.input
    expected_url = urlsplit(api_url)
    offered_url = urlsplit(fields.uri)
    _same("domain", fields.domain, expected_url.netloc)
    _same("URI", (offered_url.scheme, offered_url.netloc), (expected_url.scheme, expected_url.netloc))
    _same("URI's path", offered_url.path.rstrip("/"), expected_url.path.rstrip("/"))
    _same("URI's query", offered_url.query + offered_url.fragment, "")
    _same("address", fields.address, wallet)
    _same("wallet", challenge.wallet, wallet)
    _same("statement", fields.statement, STATEMENT)
    _same("version", fields.version, "1")
    _same("chain ID", fields.chain_id, chain_id.value)
    if not _NONCE.fullmatch(fields.nonce):
        raise ChallengeRefused("the login text's nonce is not 22 base58 characters; nothing was signed")
    _same("nonce", challenge.nonce, fields.nonce)
    _check_times(fields.issued_at, fields.expiration_time, now)
    rebuilt = SignInInput(
        domain=fields.domain,
        address=fields.address,
        statement=fields.statement,
        uri=fields.uri,
        chain_id=fields.chain_id,
        nonce=fields.nonce,
        issued_at=fields.issued_at,
        expiration_time=fields.expiration_time,
    ).message()
    if rebuilt != challenge.message:
        raise ChallengeRefused("the login text differs from what its own fields say; nothing was signed")
    return rebuilt


def _same(what: str, offered: object, expected: object) -> None:
    if offered != expected:
        raise ChallengeRefused(
            f"the login text's {what} is {_shown(offered)}, expected {_shown(expected)}; nothing was signed. "
            "Check that REAVER_API is the market's own public address"
        )


def _shown(value: object) -> str:
    text = "://".join(str(part) for part in value) if isinstance(value, tuple) else str(value)
    return repr("".join(c for c in text[:128] if c.isprintable()))


def _check_times(issued_at: str, expires_at: str, now: datetime) -> None:
    issued, expires = _time("issue time", issued_at), _time("expiration time", expires_at)
    if not timedelta(0) < expires - issued <= _LIFETIME:
        raise ChallengeRefused("the login text is valid for longer than 300 s; nothing was signed")
    if not issued - _SKEW <= now <= expires + _SKEW:
        raise ChallengeRefused(
            f"the login text was issued at {issued_at}, far from this machine's clock; nothing was signed. "
            "Set the clock, then log in again"
        )


def _time(what: str, text: str) -> datetime:
    if not _TIME.fullmatch(text):
        raise ChallengeRefused(f"the login text's {what} is not RFC 3339 in UTC; nothing was signed")
    try:
        return datetime.fromisoformat(text.removesuffix("Z")).replace(tzinfo=UTC)
    except ValueError as error:
        raise ChallengeRefused(f"the login text's {what} is no moment in time; nothing was signed") from error
