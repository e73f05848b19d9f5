"""Stored credentials of one account: logins at storage services, for jobs that deliver to a bucket."""

from marketplace.client.account_models import Credential, CredentialList
from marketplace.client.calls import Calls, page, segment

_CREDENTIALS = "/v1/credentials"


class CredentialCalls:
    """Make, list, read, delete."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(
        self, name: str, *, endpoint: str, region: str, access_key: str, secret_key: str, default: bool = False
    ) -> Credential:
        """Keep a login; its secret key is never shown again. default: taken by jobs that name no credential."""
        body = {
            "name": name,
            "kind": "s3",
            "endpoint": endpoint,
            "region": region,
            "access_key": access_key,
            "secret_key": secret_key,
            "default": default,
        }
        return (await self._calls.send("POST", _CREDENTIALS, body)).read(Credential)

    async def list_credentials(self, *, limit: int | None = None, offset: int | None = None) -> CredentialList:
        """Own logins, without their secrets."""
        return (await self._calls.get(_CREDENTIALS, page(limit, offset))).read(CredentialList)

    async def get(self, credential_id: str) -> Credential:
        """One."""
        return (await self._calls.get(f"{_CREDENTIALS}/{segment(credential_id)}")).read(Credential)

    async def delete(self, credential_id: str) -> None:
        """Forget a login; refused while a job that is not over delivers with it."""
        await self._calls.send("DELETE", f"{_CREDENTIALS}/{segment(credential_id)}", None)
