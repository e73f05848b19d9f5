"""Who makes a request, and what this credential may do. Source: api.md sections 1.2 and 4."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketplace.domain.ids import AccountId, KeyId, NodeId
from marketplace.errors import Forbidden


class Scope(StrEnum):
    """What a credential may touch."""

    READ = "read"
    JOBS = "jobs"
    COMPUTE = "compute"
    SERVERLESS = "serverless"
    INVOKE = "invoke"
    FILES = "files"
    MONEY = "money"
    NODES = "nodes"
    STAKE = "stake"
    WEBHOOKS = "webhooks"
    KEYS = "keys"
    ADMIN = "admin"


LOGIN_SCOPES: Final = frozenset(Scope) - {Scope.ADMIN}
"""A wallet login has all but `admin`."""


@dataclass(frozen=True, slots=True)
class Admins:
    """Wallets that may carry `admin`, by the settings of this process.

    No stored credential is believed to have it: a login gets it with each token that it is given, a key by whose it is,
    and both only as long as their wallet is named. So one that is named no more has lost it, whatever it still holds.
    """

    wallets: frozenset[str] = frozenset()

    def login_scopes(self, wallet: str) -> frozenset[Scope]:
        """What a login of this wallet has."""
        return LOGIN_SCOPES | {Scope.ADMIN} if wallet in self.wallets else LOGIN_SCOPES

    def allowed(self, scopes: frozenset[Scope], wallet: str) -> frozenset[Scope]:
        """What is left of a credential's scopes, whose account or login is this wallet's."""
        return scopes if wallet in self.wallets else scopes - {Scope.ADMIN}


NO_ADMINS: Final = Admins()


class KeyRate(StrEnum):
    """How an API key's requests are counted. Source: api.md sections 3 and 4.5."""

    CLIENT = "client"
    """By itself, in the narrower windows."""
    WALLET = "wallet"
    """As the account's logins are, and together with them."""


@dataclass(frozen=True, slots=True)
class AccountPrincipal:
    """An account, through one of its logins or API keys.

    wallet: the one that logged in; of a key the primary one. login_id: of a key it is empty.
    key_id, key_rate: None for a login.
    """

    account_id: AccountId
    wallet: str
    login_id: str
    scopes: frozenset[Scope]
    key_id: KeyId | None = None
    key_rate: KeyRate | None = None

    @property
    def subject(self) -> str:
        """Whose requests are counted together."""
        return self.key_id if self.key_id is not None and self.key_rate is KeyRate.CLIENT else self.account_id

    def require(self, scope: Scope, instead: Scope | None = None) -> None:
        """Raise Forbidden with neither this scope nor the one that will do instead."""
        if self.scopes.isdisjoint({scope, instead}):
            raise Forbidden(f"this credential lacks the scope {scope}", extra={"required_scope": str(scope)})

    def require_login(self, what: str) -> None:
        """Raise Forbidden for an API key. what: "to make a key", such as a sentence ends with."""
        if self.key_id is not None:
            raise Forbidden(f"it needs a login, not a key, {what}")


@dataclass(frozen=True, slots=True)
class NodePrincipal:
    """A node, through its own key: never an account, good for its own node only."""

    node_id: NodeId
    node_key: str
    login_id: str

    @property
    def subject(self) -> str:
        """Whose requests are counted together."""
        return self.node_id


Principal = AccountPrincipal | NodePrincipal
