"""Logins at container registries, for private images."""

from marketplace.client.account_models import RegistryAuth, RegistryAuthList
from marketplace.client.calls import Calls, page, segment

_AUTHS = "/v1/registry-auth"


class RegistryCalls:
    """Make, list, delete."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(self, name: str, *, username: str, password: str, registry: str | None = None) -> RegistryAuth:
        """Keep a login; its password is sealed at the market and never shown again.

        registry: host[:port] that it is for, None for whichever an image names.
        """
        body = {"name": name, "username": username, "password": password}
        body |= {} if registry is None else {"registry": registry}
        return (await self._calls.send("POST", _AUTHS, body)).read(RegistryAuth)

    async def list_auths(self, *, limit: int | None = None, offset: int | None = None) -> RegistryAuthList:
        """Own logins, without their passwords."""
        return (await self._calls.get(_AUTHS, page(limit, offset))).read(RegistryAuthList)

    async def delete(self, auth_id: str) -> None:
        """Forget a login; refused while a job that is not over pulls with it."""
        await self._calls.send("DELETE", f"{_AUTHS}/{segment(auth_id)}", None)
