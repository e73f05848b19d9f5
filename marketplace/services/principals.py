"""Who makes a request, and what this credential may do. Source: api.md sections 1.2 and 4."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from marketplace.domain.ids import AccountId, NodeId
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
class AccountPrincipal:
    """An account, through one of its logins. wallet: the one that logged in."""

    account_id: AccountId
    wallet: str
    login_id: str
    scopes: frozenset[Scope]

    @property
    def subject(self) -> str:
        """Whose requests are counted together."""
        return self.account_id

    def require(self, scope: Scope) -> None:
        """Raise Forbidden without this scope."""
        if scope not in self.scopes:
            raise Forbidden(f"this credential lacks the scope {scope}", extra={"required_scope": str(scope)})


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
