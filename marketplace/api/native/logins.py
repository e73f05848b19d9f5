"""`/v1/auth/*`: seed 000's challenge and verify, refresh, logout."""

from typing import Annotated

from pydantic import Field

from marketplace.api.fields import Address, MillisInstant, QueryModel, RequestModel, ResponseModel, SignatureText
from marketplace.api.routes import OPEN, Access, Call, RateClass, Route
from marketplace.errors import ChallengeExpired, InvalidSignature, Malformed, RefreshReused, Unauthenticated
from marketplace.services.idempotency import check_key
from marketplace.services.logins import LoginService, Purpose, Session
from marketplace.services.principals import AccountPrincipal

_ANY_LOGIN = Access(accounts=True, nodes=True)


class ChallengeQuery(QueryModel):
    wallet: Address
    purpose: Purpose = Purpose.LOGIN


class ChallengeInput(ResponseModel):
    """Fields for a wallet's `signIn`, under the standard's names."""

    domain: str
    address: str
    statement: str
    uri: str
    version: str
    chain_id: str = Field(alias="chainId")
    nonce: str
    issued_at: str = Field(alias="issuedAt")
    expiration_time: str = Field(alias="expirationTime")


class ChallengeResponse(ResponseModel):
    wallet: str
    message: str
    nonce: str
    issued_at: MillisInstant
    expires_at: MillisInstant
    input: ChallengeInput


class VerifyRequest(RequestModel):
    wallet: Address
    signature: SignatureText
    nonce: Annotated[str, Field(min_length=1, max_length=64)] | None = None
    signed_message: Annotated[str, Field(max_length=8192)] | None = None


class RefreshRequest(RequestModel):
    refresh_token: Annotated[str, Field(min_length=1, max_length=128)]


class SessionResponse(ResponseModel):
    token: str
    expires_in: int = Field(alias="expiresIn")
    refresh_token: str
    refresh_expires_in: int


def _session(session: Session) -> SessionResponse:
    return SessionResponse(
        token=session.token,
        expires_in=session.expires_in_s,
        refresh_token=session.refresh_token,
        refresh_expires_in=session.refresh_expires_in_s,
    )


def login_routes(logins: LoginService) -> list[Route]:
    """Challenge, verify, refresh, logout."""

    async def challenge(call: Call, query: ChallengeQuery) -> ChallengeResponse:
        issued = await logins.issue_challenge(query.wallet, query.purpose, call.client_address)
        return ChallengeResponse(
            wallet=query.wallet,
            message=issued.challenge.message,
            nonce=issued.challenge.nonce,
            issued_at=issued.challenge.issued_at,
            expires_at=issued.challenge.expires_at,
            input=ChallengeInput.model_validate(issued.fields.as_input()),
        )

    async def verify(call: Call, body: VerifyRequest) -> SessionResponse:
        session = await logins.verify(
            body.wallet,
            body.signature,
            call.client_address,
            nonce=body.nonce,
            signed_message=body.signed_message,
        )
        return _session(session)

    async def refresh(call: Call, body: RefreshRequest) -> SessionResponse:
        keys = call.http.headers.getall("Idempotency-Key", [])
        if len(keys) > 1:
            raise Malformed("more than one Idempotency-Key was sent")
        return _session(await logins.refresh(body.refresh_token, check_key(keys[0]) if keys else None))

    async def logout(call: Call) -> None:
        if isinstance(call.principal, AccountPrincipal):
            call.principal.require_login("to log out; an API key ends by DELETE /v1/api-keys/{id}")
        await logins.log_out(call.caller.login_id)

    return [
        Route("GET", "/v1/auth/challenge", challenge, "Text for a wallet to sign", OPEN, rate=RateClass.CHALLENGE),
        Route(
            "POST",
            "/v1/auth/verify",
            verify,
            "Exchange the signature for a token",
            OPEN,
            rate=RateClass.LOGIN,
            errors=(ChallengeExpired, InvalidSignature, Unauthenticated),
        ),
        Route(
            "POST",
            "/v1/auth/refresh",
            refresh,
            "Exchange a refresh token, once",
            OPEN,
            rate=RateClass.LOGIN,
            errors=(Unauthenticated, RefreshReused),
        ),
        Route("POST", "/v1/auth/logout", logout, "End this login", _ANY_LOGIN, status=204),
    ]
