"""Accounts and their wallets, outstanding challenges, logins and refresh tokens."""

from collections.abc import Sequence
from dataclasses import dataclass

from marketplace.domain.ids import AccountId
from marketplace.domain.quantities import Millis
from marketplace.store.engine import Transaction


@dataclass(frozen=True, slots=True)
class Challenge:
    """A text that was issued for a wallet to sign. purpose: what a signature over it is good for."""

    nonce: str
    wallet: str
    purpose: str
    client_address: str
    message: str
    issued_at: Millis
    expires_at: Millis


@dataclass(frozen=True, slots=True)
class Login:
    """One login (`sid`) and all tokens descended from it. subject: the account or node it speaks for."""

    id: str
    subject: str
    wallet: str
    scope: str
    created_at: Millis
    expires_at: Millis
    revoked: bool


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """A refresh token by its SHA-256; used once."""

    token_hash: bytes
    login_id: str
    expires_at: Millis
    used_at: Millis | None
    retry_key_hash: bytes | None


@dataclass(frozen=True, slots=True)
class Wallet:
    """A wallet linked to an account."""

    address: str
    account_id: AccountId
    primary: bool
    linked_at: Millis


@dataclass(frozen=True, slots=True)
class Account:
    """A principal with its wallets, the primary one first."""

    id: AccountId
    created_at: Millis
    wallets: tuple[Wallet, ...]


class Accounts:
    """Accounts by id or wallet."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def find(self, account_id: AccountId) -> Account | None:
        """The account with its wallets."""
        row = self._tx.row("SELECT created_at_ms FROM accounts WHERE id = :id", {"id": account_id})
        if row is None:
            return None
        wallets = self._tx.rows(
            "SELECT address, is_primary, linked_at_ms FROM wallets WHERE account_id = :id"
            " ORDER BY is_primary DESC, linked_at_ms, address",
            {"id": account_id},
        )
        return Account(
            account_id,
            Millis(row[0]),
            tuple(Wallet(wallet[0], account_id, bool(wallet[1]), Millis(wallet[2])) for wallet in wallets),
        )

    def find_by_wallet(self, wallet: str) -> AccountId | None:
        """The account a wallet logs in to."""
        row = self._tx.row("SELECT account_id FROM wallets WHERE address = :wallet", {"wallet": wallet})
        return AccountId(row[0]) if row else None

    def create(self, account_id: AccountId, wallet: str, now: Millis) -> None:
        """A new account whose primary wallet is `wallet`. Raises UniqueViolation."""
        self._tx.change("INSERT INTO accounts (id, created_at_ms) VALUES (:id, :now)", {"id": account_id, "now": now})
        self._tx.change(
            "INSERT INTO wallets (address, account_id, is_primary, linked_at_ms) VALUES (:wallet, :id, TRUE, :now)",
            {"wallet": wallet, "id": account_id, "now": now},
        )


class Challenges:
    """Outstanding challenges."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, challenge: Challenge, *, keep: int) -> None:
        """Store a challenge; of one wallet and client address only the newest `keep` stay."""
        self._tx.change(
            "INSERT INTO challenges"
            " (nonce, wallet, purpose, client_address, message, issued_at_ms, expires_at_ms)"
            " VALUES (:nonce, :wallet, :purpose, :address, :message, :issued, :expires)",
            {
                "nonce": challenge.nonce,
                "wallet": challenge.wallet,
                "purpose": challenge.purpose,
                "address": challenge.client_address,
                "message": challenge.message,
                "issued": challenge.issued_at,
                "expires": challenge.expires_at,
            },
        )
        self._tx.change(
            "DELETE FROM challenges WHERE nonce IN ("
            " SELECT nonce FROM challenges WHERE wallet = :wallet AND client_address = :address"
            " ORDER BY issued_at_ms DESC, nonce DESC LIMIT 1000 OFFSET :keep)",
            {"wallet": challenge.wallet, "address": challenge.client_address, "keep": keep},
        )

    def list_outstanding(self, wallet: str, client_address: str, now: Millis, limit: int) -> Sequence[Challenge]:
        """Live challenges of a wallet, those issued to this address first, then the newest."""
        rows = self._tx.rows(
            "SELECT nonce, wallet, purpose, client_address, message, issued_at_ms, expires_at_ms FROM challenges"
            " WHERE wallet = :wallet AND expires_at_ms > :now"
            " ORDER BY CASE WHEN client_address = :address THEN 0 ELSE 1 END, issued_at_ms DESC, nonce LIMIT :limit",
            {"wallet": wallet, "now": now, "address": client_address, "limit": limit},
        )
        return [Challenge(*row) for row in rows]

    def consume(self, nonce: str, now: Millis) -> bool:
        """Delete a live challenge; False where somebody was faster or its time is over."""
        return (
            self._tx.change(
                "DELETE FROM challenges WHERE nonce = :nonce AND expires_at_ms > :now", {"nonce": nonce, "now": now}
            )
            == 1
        )

    def forget_expired(self, now: Millis) -> int:
        """Delete challenges past their time; how many."""
        return self._tx.change("DELETE FROM challenges WHERE expires_at_ms <= :now", {"now": now})


class Logins:
    """Logins and their refresh tokens."""

    def __init__(self, tx: Transaction) -> None:
        self._tx = tx

    def create(self, login: Login) -> None:
        """Store a login."""
        self._tx.change(
            "INSERT INTO logins (id, subject, wallet, scope, created_at_ms, expires_at_ms)"
            " VALUES (:id, :subject, :wallet, :scope, :created, :expires)",
            {
                "id": login.id,
                "subject": login.subject,
                "wallet": login.wallet,
                "scope": login.scope,
                "created": login.created_at,
                "expires": login.expires_at,
            },
        )

    def find(self, login_id: str) -> Login | None:
        """The login, revoked or not."""
        row = self._tx.row(
            "SELECT id, subject, wallet, scope, created_at_ms, expires_at_ms, revoked_at_ms FROM logins WHERE id = :id",
            {"id": login_id},
        )
        return Login(row[0], row[1], row[2], row[3], row[4], row[5], row[6] is not None) if row else None

    def is_live(self, login_id: str) -> bool:
        """Whether tokens of this login are still good."""
        return (
            self._tx.row("SELECT 1 FROM logins WHERE id = :id AND revoked_at_ms IS NULL", {"id": login_id}) is not None
        )

    def revoke(self, login_id: str, now: Millis) -> None:
        """End a login: none of its tokens is good from now on."""
        self._tx.change(
            "UPDATE logins SET revoked_at_ms = :now WHERE id = :id AND revoked_at_ms IS NULL",
            {"id": login_id, "now": now},
        )

    def prolong(self, login_id: str, expires_at: Millis) -> None:
        """The login lives as long as its newest refresh token."""
        self._tx.change(
            "UPDATE logins SET expires_at_ms = :expires WHERE id = :id", {"id": login_id, "expires": expires_at}
        )

    def add_refresh_token(self, token_hash: bytes, login_id: str, now: Millis, expires_at: Millis) -> None:
        """Store a fresh token."""
        self._tx.change(
            "INSERT INTO refresh_tokens (token_hash, login_id, issued_at_ms, expires_at_ms)"
            " VALUES (:hash, :login, :now, :expires)",
            {"hash": token_hash, "login": login_id, "now": now, "expires": expires_at},
        )

    def find_refresh_token(self, token_hash: bytes) -> RefreshToken | None:
        """The token, used or not."""
        row = self._tx.row(
            "SELECT token_hash, login_id, expires_at_ms, used_at_ms, retry_key_hash FROM refresh_tokens"
            " WHERE token_hash = :hash",
            {"hash": token_hash},
        )
        return RefreshToken(*row) if row else None

    def use_refresh_token(self, token_hash: bytes, now: Millis, retry_key_hash: bytes | None) -> bool:
        """Mark a token used; False where it was used before."""
        return (
            self._tx.change(
                "UPDATE refresh_tokens SET used_at_ms = :now, retry_key_hash = :key"
                " WHERE token_hash = :hash AND used_at_ms IS NULL",
                {"hash": token_hash, "now": now, "key": retry_key_hash},
            )
            == 1
        )

    def forget_expired(self, now: Millis) -> int:
        """Delete tokens, then logins, past their time; how many."""
        tokens = self._tx.change("DELETE FROM refresh_tokens WHERE expires_at_ms <= :now", {"now": now})
        logins = self._tx.change(
            "DELETE FROM logins WHERE expires_at_ms <= :now"
            " AND NOT EXISTS (SELECT 1 FROM refresh_tokens WHERE refresh_tokens.login_id = logins.id)",
            {"now": now},
        )
        return tokens + logins
