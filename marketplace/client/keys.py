"""API keys of one account."""

from marketplace.client.account_models import ApiKey, ApiKeyList
from marketplace.client.calls import Calls, page, segment

_KEYS = "/v1/api-keys"


class KeyCalls:
    """Make, list, delete."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def create(
        self,
        name: str,
        scopes: tuple[str, ...],
        *,
        expires_at: str | None = None,
        per_day: str | None = None,
        total: str | None = None,
    ) -> ApiKey:
        """A new key; the key itself is in this answer and never again. per_day, total: what it may spend."""
        limit = {name: value for name, value in (("per_day", per_day), ("total", total)) if value is not None}
        body: dict[str, object] = {"name": name, "scopes": list(scopes)}
        body |= {"expires_at": expires_at} if expires_at is not None else {}
        body |= {"spend_limit": limit} if limit else {}
        return (await self._calls.send("POST", _KEYS, body)).read(ApiKey)

    async def list_keys(self, *, limit: int | None = None, offset: int | None = None) -> ApiKeyList:
        """Own keys, without their secrets."""
        return (await self._calls.get(_KEYS, page(limit, offset))).read(ApiKeyList)

    async def delete(self, key_id: str) -> None:
        """End a key; within 5 s nobody gets in with it."""
        await self._calls.send("DELETE", f"{_KEYS}/{segment(key_id)}", None)
