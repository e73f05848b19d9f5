"""Secrets of jobs, and logins at image registries: write-only, sealed at rest, opened for the node that claims.

A job's secrets are kept for seven days after its end, as its output is, so that it can be repeated. Nothing here is
ever in a spec that is stored, in a log line, an event or an answer.
"""

from typing import Final

import orjson

from marketplace.domain.allocations import Allocation
from marketplace.domain.ids import AccountId, AllocationId, RegistryAuthId
from marketplace.errors import AlreadyExists, DetailCode, InUse, Invalid, NotFound, QuotaExceeded, UniqueViolation
from marketplace.protocol.registries import registry_name, registry_of
from marketplace.protocol.terms import JobSpec, RegistryLogin
from marketplace.services.clock import Clock, Ids
from marketplace.services.stored_secrets import SecretKeeper, StoredSecret, Unreadable
from marketplace.store.engine import Store, Transaction
from marketplace.store.job_secrets import JobSecret, JobSecrets, RegistryAuth, RegistryAuths

RETENTION_MS: Final = 7 * 24 * 3_600_000
"""Chosen: as long as logs and results are kept after a job's end."""
MAX_AUTHS: Final = 100
"""Chosen: logins of one account."""


class SecretService:
    """Keeps what must not be shown."""

    def __init__(self, store: Store, keeper: SecretKeeper, clock: Clock, ids: Ids) -> None:
        self._store = store
        self._keeper = keeper
        self._clock = clock
        self._ids = ids

    # of jobs

    def put(self, tx: Transaction, allocation_id: AllocationId, secrets: dict[str, str]) -> None:
        """Seal them, in the transaction that writes the job."""
        if secrets:
            stored = self._keeper.seal(_purpose(allocation_id), orjson.dumps(secrets))
            JobSecrets(tx).put(JobSecret(allocation_id, stored.key_id, stored.sealed))

    async def get(self, allocation_id: AllocationId) -> dict[str, str]:
        """A job's secrets. Raises Unreadable when they are gone or can't be opened."""
        found = await self._store.read(lambda tx: JobSecrets(tx).find(allocation_id))
        if found is None:
            raise Unreadable(f"the secrets of {allocation_id} are not here any more")
        plain: dict[str, str] = orjson.loads(
            self._keeper.unseal(_purpose(allocation_id), StoredSecret(found.key_id, found.sealed))
        )
        return plain

    async def complete(self, allocation: Allocation, spec: JobSpec) -> JobSpec:
        """The spec with what is kept apart from it, to be sealed to a node and to nobody else. Raises Unreadable."""
        if spec.secret_names:
            spec = spec.model_copy(update={"secrets": await self.get(allocation.id)})
        if allocation.registry_auth_id is not None:
            auth_id = allocation.registry_auth_id
            auth = await self._store.read(lambda tx: RegistryAuths(tx).find(auth_id))
            if auth is not None:
                spec = spec.model_copy(update={"registry_login": self._login(auth)})
        return spec

    async def forget_old(self) -> None:
        """Forget secrets of jobs that are long over."""
        limit = self._clock.now() - RETENTION_MS
        await self._store.write(lambda tx: JobSecrets(tx).forget_before(limit))

    # at registries

    async def create_auth(
        self, account_id: AccountId, name: str, username: str, password: str, registry: str | None
    ) -> RegistryAuth:
        """Keep a login. Raises AlreadyExists when the account has one of this name, QuotaExceeded."""
        auth_id = RegistryAuthId(self._ids.new("reg"))
        stored = self._keeper.seal(_auth_purpose(auth_id), password.encode())
        auth = RegistryAuth(
            id=auth_id,
            account_id=account_id,
            name=name,
            username=username,
            host=registry,
            key_id=stored.key_id,
            sealed=stored.sealed,
            created_at_ms=self._clock.now(),
        )

        def write(tx: Transaction) -> None:
            auths = RegistryAuths(tx)
            if len(auths.list_for(account_id)) >= MAX_AUTHS:
                raise QuotaExceeded(
                    f"at most {MAX_AUTHS} registry logins an account; delete some",
                    extra={"quota": "registry_auths", "limit": MAX_AUTHS},
                )
            auths.create(auth)

        try:
            await self._store.write(write)
        except UniqueViolation as error:
            raise AlreadyExists("there is a registry login of this name") from error
        return auth

    async def list_auths(self, account_id: AccountId) -> list[RegistryAuth]:
        """All of an account's."""
        return await self._store.read(lambda tx: RegistryAuths(tx).list_for(account_id))

    async def delete_auth(self, account_id: AccountId, auth_id: RegistryAuthId) -> None:
        """Raises NotFound, for another account's too; InUse while a job that is not over pulls with it."""

        def write(tx: Transaction) -> None:
            auths = RegistryAuths(tx)
            auth = auths.find(auth_id)
            if auth is None or auth.account_id != account_id:
                raise NotFound
            users = auths.users(auth_id)
            if users:
                jobs = [user.replace("alloc_", "job_", 1) for user in users[:10]]
                raise InUse("a job that is not over pulls its image with this login", extra={"used_by": jobs})
            auths.delete(auth_id)

        await self._store.write(write)

    async def require_auth(self, account_id: AccountId, spec: JobSpec) -> RegistryAuthId | None:
        """The login that a spec names, None when it names none. Raises Invalid for one that isn't the account's."""
        if spec.registry_auth_id is None:
            return None
        auth_id = RegistryAuthId(spec.registry_auth_id)
        auth = await self._store.read(lambda tx: RegistryAuths(tx).find(auth_id))
        if auth is None or auth.account_id != account_id:
            raise Invalid.field("registry_auth_id", DetailCode.NOT_ALLOWED, "is no registry login of this account")
        if auth.host is not None and registry_name(auth.host) != registry_of(spec.image):
            raise Invalid.field(
                "registry_auth_id", DetailCode.CONFLICT, f"is a login at {auth.host}, and the image is elsewhere"
            )
        return auth_id

    def _login(self, auth: RegistryAuth) -> RegistryLogin:
        password = self._keeper.unseal(_auth_purpose(auth.id), StoredSecret(auth.key_id, auth.sealed)).decode()
        return RegistryLogin(username=auth.username, password=password, registry=auth.host)


def _purpose(allocation_id: AllocationId) -> str:
    return f"job {allocation_id}"


def _auth_purpose(auth_id: RegistryAuthId) -> str:
    return f"registry {auth_id}"
