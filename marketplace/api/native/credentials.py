"""`/v1/credentials`: logins at storage services, for jobs that deliver to a bucket. Source: api.md section 5.4.

A secret key goes in and never comes out: it signs what is delivered, and is in no answer, event or log.
"""

from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from marketplace.api.fields import CredentialIdPath, MillisInstant, Page, RequestModel, ResponseModel
from marketplace.api.routes import Call, Reply, Route, reading, scope
from marketplace.domain.ids import CredentialId
from marketplace.domain.quantities import Millis
from marketplace.errors import AlreadyExists, InUse, Invalid, NotFound, QuotaExceeded
from marketplace.services.bucket_credentials import CredentialService, NewCredential
from marketplace.services.principals import Scope
from marketplace.store.buckets import Credential

_KEY: Final = r"^[\x21-\x7e]+$"
_REGION: Final = r"^[A-Za-z0-9-]+$"


class CredentialRequest(RequestModel):
    """endpoint: the service's URL, without a path. default: taken by jobs that name a bucket and no credential."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    kind: Literal["s3"]
    endpoint: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    region: Annotated[str, StringConstraints(min_length=1, max_length=64, pattern=_REGION)]
    access_key: Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=_KEY)]
    secret_key: Annotated[str, StringConstraints(min_length=1, max_length=1024, pattern=_KEY)] = Field(repr=False)
    default: bool = False


class CredentialView(ResponseModel):
    id: str
    name: str
    kind: str
    endpoint: str
    region: str
    access_key: str
    default: bool
    created_at: MillisInstant


class CredentialList(ResponseModel):
    credentials: list[CredentialView]
    total: int
    has_more: bool


def credential_routes(credentials: CredentialService) -> list[Route]:
    """Make, list, read, delete."""

    async def create(call: Call, body: CredentialRequest) -> Reply[CredentialView]:
        wanted = NewCredential(
            body.name, body.endpoint, body.region, body.access_key, body.secret_key, is_default=body.default
        )
        made = await credentials.create(call.account_id, wanted)
        return Reply(_view(made), status=201, headers={"Location": f"/v1/credentials/{made.id}"})

    async def list_credentials(call: Call, query: Page) -> CredentialList:
        found = await credentials.list_own(call.account_id)
        shown = found[query.offset : query.offset + query.limit]
        return CredentialList(
            credentials=[_view(each) for each in shown],
            total=len(found),
            has_more=query.offset + len(shown) < len(found),
        )

    async def get_credential(call: Call, credential_id: CredentialIdPath) -> CredentialView:
        return _view(await credentials.get(call.account_id, CredentialId(credential_id)))

    async def delete(call: Call, credential_id: CredentialIdPath) -> None:
        await credentials.delete(call.account_id, CredentialId(credential_id))

    may, read = scope(Scope.FILES), reading(Scope.FILES)
    return [
        Route(
            "POST", "/v1/credentials", create, "Keep a login at a storage service", may, status=201, idempotent=True,
            errors=(Invalid, AlreadyExists, QuotaExceeded),
        ),
        Route("GET", "/v1/credentials", list_credentials, "Stored credentials", read, errors=(Invalid,)),
        Route(
            "GET", "/v1/credentials/{credential_id}", get_credential, "A stored credential", read, errors=(NotFound,),
        ),
        Route(
            "DELETE", "/v1/credentials/{credential_id}", delete, "Forget a stored credential", may, status=204,
            errors=(NotFound, InUse),
        ),
    ]  # fmt: skip


def _view(credential: Credential) -> CredentialView:
    return CredentialView(
        id=credential.id,
        name=credential.name,
        kind=credential.kind,
        endpoint=credential.endpoint,
        region=credential.region,
        access_key=credential.access_key,
        default=credential.is_default,
        created_at=Millis(credential.created_at_ms),
    )
