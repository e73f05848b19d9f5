"""One check for every kind of credential."""

from marketplace.services.api_keys import ApiKeyService, is_api_key
from marketplace.services.principals import Principal
from marketplace.services.tokens import Tokens


class Credentials:
    """Access tokens and API keys."""

    def __init__(self, tokens: Tokens, keys: ApiKeyService) -> None:
        self._tokens = tokens
        self._keys = keys

    async def authenticate(self, text: str) -> Principal:
        """Who it speaks for. Raises Unauthenticated, TokenExpired."""
        return await (self._keys if is_api_key(text) else self._tokens).authenticate(text)
