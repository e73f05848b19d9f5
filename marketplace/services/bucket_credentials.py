"""Logins at storage services of renters: write-only, sealed at rest, opened to sign what is delivered there."""

from dataclasses import dataclass, field
from typing import Final

from yarl import URL

from marketplace.domain.allocations import job_of
from marketplace.domain.buckets import BucketPlace
from marketplace.domain.destinations import Reach
from marketplace.domain.ids import AccountId, AllocationId, CredentialId
from marketplace.errors import AlreadyExists, DetailCode, InUse, Invalid, NotFound, QuotaExceeded, UniqueViolation
from marketplace.objects.signing import BucketLogin
from marketplace.outgoing import DestinationRefused, check_url
from marketplace.services.clock import Clock, Ids
from marketplace.services.stored_secrets import SecretKeeper, StoredSecret
from marketplace.store.buckets import BucketDeliveries, BucketDelivery, Credential, Credentials
from marketplace.store.engine import Store, Transaction

MAX_CREDENTIALS: Final = 100
"""Of one account; chosen, as registry logins."""
_USERS_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What is asked for."""

    name: str
    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    is_default: bool = False


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a job's outputs are to go, and by whose login."""

    place: BucketPlace
    credential_id: CredentialId


class CredentialService:
    """Keeps logins, and chooses the one of a job."""

    def __init__(self, store: Store, keeper: SecretKeeper, clock: Clock, ids: Ids, reach: Reach) -> None:
        self._store = store
        self._keeper = keeper
        self._clock = clock
        self._ids = ids
        self._reach = reach

    async def create(self, account_id: AccountId, wanted: NewCredential) -> Credential:
        """Keep a login. Raises Invalid, QuotaExceeded, AlreadyExists when the account has one of this name."""
        endpoint = self._checked(wanted.endpoint)
        credential_id = CredentialId(self._ids.new("cred"))
        stored = self._keeper.seal(_purpose(credential_id), wanted.secret_key.encode())
        credential = Credential(
            id=credential_id,
            account_id=account_id,
            name=wanted.name,
            kind="s3",
            endpoint=endpoint,
            region=wanted.region,
            access_key=wanted.access_key,
            is_default=wanted.is_default,
            key_id=stored.key_id,
            sealed=stored.sealed,
            created_at_ms=self._clock.now(),
        )

        def write(tx: Transaction) -> None:
            if len(Credentials(tx).list_for(account_id)) >= MAX_CREDENTIALS:
                raise QuotaExceeded(
                    f"at most {MAX_CREDENTIALS} stored credentials an account; delete some",
                    extra={"quota": "credentials", "limit": MAX_CREDENTIALS},
                )
            Credentials(tx).create(credential)

        try:
            await self._store.write(write)
        except UniqueViolation as error:
            raise AlreadyExists("there is a stored credential of this name") from error
        return credential

    async def list_own(self, account_id: AccountId) -> list[Credential]:
        """All of an account's."""
        return await self._store.read(lambda tx: Credentials(tx).list_for(account_id))

    async def get(self, account_id: AccountId, credential_id: CredentialId) -> Credential:
        """Raises NotFound, for another account's too."""
        found = await self._store.lookup(lambda tx: Credentials(tx).find(credential_id))
        if found is None or found.account_id != account_id:
            raise NotFound
        return found

    async def delete(self, account_id: AccountId, credential_id: CredentialId) -> None:
        """Raises NotFound, for another account's too; InUse while a job that is not over delivers with it."""

        def write(tx: Transaction) -> None:
            credentials = Credentials(tx)
            found = credentials.find(credential_id)
            if found is None or found.account_id != account_id:
                raise NotFound
            users = credentials.users(credential_id)
            if users:
                jobs = [job_of(user) for user in users[:_USERS_SHOWN]]
                raise InUse("a job that is not over delivers with this login", extra={"used_by": jobs})
            credentials.delete(credential_id)

        await self._store.write(write)

    async def choose(
        self, account_id: AccountId, place: BucketPlace | None, credential_id: CredentialId | None
    ) -> Destination | None:
        """The login for a job's bucket: the one named, else the default, else the only one; None without a bucket.

        Raises Invalid.
        """
        if place is None:
            return None
        own = {credential.id: credential for credential in await self.list_own(account_id)}
        if credential_id is not None:
            if credential_id not in own:
                raise Invalid.field(
                    "output_config.credential_id", DetailCode.NOT_ALLOWED, "is no stored credential of this account"
                )
            return Destination(place, credential_id)
        chosen = [credential.id for credential in own.values() if credential.is_default] or list(own)
        if len(chosen) == 1:
            return Destination(place, chosen[0])
        why = "names a bucket; keep a login for it first: POST /v1/credentials" if not own else (
            "names a bucket, and the account has several logins; name one as output_config.credential_id, or make one "
            "the default: POST /v1/credentials"
        )  # fmt: skip
        raise Invalid.field("output_config.destination", DetailCode.REQUIRED, why)

    def plan(self, tx: Transaction, allocation_id: AllocationId, destination: Destination) -> None:
        """Note where a job's outputs go, in the transaction that writes the job. Raises Invalid.

        A login that was deleted since it was chosen is missed here, so that no job waits for one that is gone.
        """
        if Credentials(tx).find(destination.credential_id) is None:
            raise Invalid.field("output_config.credential_id", DetailCode.NOT_ALLOWED, "has just been deleted")
        place = destination.place
        BucketDeliveries(tx).create(
            BucketDelivery(allocation_id, destination.credential_id, place.bucket, place.prefix)
        )

    async def login(self, delivery: BucketDelivery) -> BucketLogin:
        """What signs a delivery. Raises NotFound, Unreadable."""
        credential_id = delivery.credential_id
        found = await self._store.read(lambda tx: Credentials(tx).find(credential_id))
        if found is None:
            raise NotFound("the stored credential is gone")
        secret = self._keeper.unseal(_purpose(found.id), StoredSecret(found.key_id, found.sealed)).decode()
        return BucketLogin(found.endpoint, found.region, delivery.bucket, found.access_key, secret)

    def _checked(self, endpoint: str) -> str:
        """The endpoint, when requests may go there. Raises Invalid."""
        try:
            url = check_url(endpoint, self._reach)
        except DestinationRefused as refused:
            raise Invalid.field("endpoint", DetailCode.NOT_ALLOWED, str(refused)) from refused
        if url.path not in ("", "/") or url.query_string or url.fragment:
            why = "is the service's own address, without a path; each job names its bucket"
            raise Invalid.field("endpoint", DetailCode.NOT_ALLOWED, why)
        return str(URL.build(scheme=url.scheme, authority=url.raw_authority))


def _purpose(credential_id: CredentialId) -> str:
    return f"credential {credential_id}"
