"""Sign-In-With-Solana over HTTP: seed 000's two calls, and everything that must not log in."""

import base64
import re

import base58
import jwt
import pytest

from tests.api.conftest import Wallet


async def test_seed_000_logs_in(call, wallet):
    status, challenge, _ = await call("GET", f"/v1/auth/challenge?wallet={wallet.address}")
    assert status == 200
    assert list(challenge) == ["wallet", "message", "nonce", "issued_at", "expires_at", "input"]
    assert challenge["message"] == (
        "api.example.test wants you to sign in with your Solana account:\n"
        f"{wallet.address}\n\nSign in to Reaver. No funds move.\n\n"
        "URI: https://api.example.test\nVersion: 1\nChain ID: localnet\n"
        f"Nonce: {challenge['nonce']}\nIssued At: {challenge['issued_at']}\nExpiration Time: {challenge['expires_at']}"
    )
    assert re.fullmatch(r"[1-9A-HJ-NP-Za-km-z]{22}", challenge["nonce"])
    status, answer, _ = await call(
        "POST", "/v1/auth/verify", json={"wallet": wallet.address, "signature": wallet.sign(challenge["message"])}
    )
    assert status == 200
    assert list(answer)[:2] == ["token", "expiresIn"]
    assert answer["expiresIn"] == 3600
    assert answer["refresh_expires_in"] == 2_592_000
    claims = jwt.decode(answer["token"], options={"verify_signature": False})
    assert claims["aud"] == "reaver"
    assert claims["iss"] == "https://api.example.test"
    assert claims["wallet"] == wallet.address
    assert claims["exp"] - claims["iat"] == 3600
    assert "admin" not in claims["scope"].split()


async def challenge_of(call, wallet):
    _, challenge, _ = await call("GET", f"/v1/auth/challenge?wallet={wallet.address}")
    return challenge


async def verify(call, **body):
    return await call("POST", "/v1/auth/verify", json=body)


async def test_a_challenge_is_good_once(call, wallet):
    challenge = await challenge_of(call, wallet)
    body = {"wallet": wallet.address, "signature": wallet.sign(challenge["message"])}
    assert (await verify(call, **body))[0] == 200
    status, answer, headers = await verify(call, **body)
    assert (status, answer["error"]) == (401, "challenge_expired")
    assert headers["WWW-Authenticate"] == "Bearer"


async def test_a_challenge_expires_after_300_seconds(call, wallet, clock):
    challenge = await challenge_of(call, wallet)
    clock.advance(300_000)
    status, answer, _ = await verify(call, wallet=wallet.address, signature=wallet.sign(challenge["message"]))
    assert (status, answer["error"]) == (401, "challenge_expired")


async def test_altered_text_is_refused_and_burns_nothing(call, wallet):
    challenge = await challenge_of(call, wallet)
    altered = challenge["message"].replace("No funds move", "All funds move")
    for shown in (altered, challenge["message"]):
        status, answer, _ = await verify(
            call,
            wallet=wallet.address,
            signature=wallet.sign(altered),
            signed_message=base64.b64encode(shown.encode()).decode(),
        )
        assert (status, answer["error"]) == (401, "invalid_signature")
    status, _, _ = await verify(
        call,
        wallet=wallet.address,
        signature=wallet.sign(challenge["message"]),
        nonce=challenge["nonce"],
        signed_message=base64.b64encode(challenge["message"].encode()).decode(),
    )
    assert status == 200


async def test_another_wallets_signature_is_refused(call, wallet):
    stranger = Wallet()
    challenge = await challenge_of(call, wallet)
    status, answer, _ = await verify(call, wallet=wallet.address, signature=stranger.sign(challenge["message"]))
    assert (status, answer["error"]) == (401, "invalid_signature")
    status, answer, _ = await verify(call, wallet=stranger.address, signature=stranger.sign(challenge["message"]))
    assert (status, answer["error"]) == (401, "challenge_expired")


async def test_an_unknown_nonce_is_refused(call, wallet):
    challenge = await challenge_of(call, wallet)
    status, answer, _ = await verify(
        call, wallet=wallet.address, signature=wallet.sign(challenge["message"]), nonce="1" * 22
    )
    assert (status, answer["error"]) == (401, "challenge_expired")


@pytest.mark.parametrize(
    "address",
    [
        "",
        "abc",
        "1" * 33,
        "0OIl" * 8,
        "7xQs...4Fve",
        " " + "1" * 32,
        base58.b58encode(b"\1" * 31).decode(),
        "1" + base58.b58encode(b"\xff" * 32).decode(),
    ],
)
async def test_non_canonical_addresses_are_refused(call, address):
    status, answer, _ = await call("GET", "/v1/auth/challenge", params={"wallet": address})
    assert (status, answer["error"]) == (422, "validation_error")
    assert answer["details"][0]["field"] == "wallet"


async def test_non_canonical_signatures_are_refused(call, wallet):
    challenge = await challenge_of(call, wallet)
    good = wallet.sign(challenge["message"])
    for bad in ("1" + good, good + " ", base58.b58encode(b"\1" * 63).decode(), "0" * 88):
        status, answer, _ = await verify(call, wallet=wallet.address, signature=bad)
        assert (status, answer["error"]) == (422, "validation_error")
        assert answer["details"][0]["field"] == "signature"


async def test_at_most_five_challenges_are_outstanding(call, wallet, clock):
    issued = []
    for _ in range(6):
        issued.append(await challenge_of(call, wallet))
        clock.advance(1)
    status, answer, _ = await verify(
        call, wallet=wallet.address, signature=wallet.sign(issued[0]["message"]), nonce=issued[0]["nonce"]
    )
    assert (status, answer["error"]) == (401, "challenge_expired")
    for challenge in issued[1:]:
        assert (await verify(call, wallet=wallet.address, signature=wallet.sign(challenge["message"])))[0] == 200


async def test_the_same_wallet_keeps_its_account(call, wallet):
    subjects = set()
    for _ in range(2):
        session = await call.login(wallet)
        subjects.add(jwt.decode(session["token"], options={"verify_signature": False})["sub"])
    assert len(subjects) == 1


async def test_a_refresh_token_is_good_once_and_its_reuse_ends_the_login(call, wallet):
    first = await call.login(wallet)
    status, second, _ = await call("POST", "/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert status == 200
    assert second["refresh_token"] != first["refresh_token"]
    status, answer, _ = await call("POST", "/v1/auth/refresh", json={"refresh_token": first["refresh_token"]})
    assert (status, answer["error"]) == (401, "refresh_reused")
    status, answer, _ = await call("POST", "/v1/auth/refresh", json={"refresh_token": second["refresh_token"]})
    assert (status, answer["error"]) == (401, "unauthorized")
    status, answer, _ = await call("POST", "/v1/auth/logout", token=second["token"])
    assert (status, answer["error"]) == (401, "unauthorized")


async def test_a_retried_refresh_with_the_same_key_is_replayed_within_a_minute(call, wallet, clock):
    first = await call.login(wallet)
    ask = {"json": {"refresh_token": first["refresh_token"]}, "headers": {"Idempotency-Key": "k1"}}
    _, second, _ = await call("POST", "/v1/auth/refresh", **ask)
    clock.advance(60_000)
    status, again, _ = await call("POST", "/v1/auth/refresh", **ask)
    assert status == 200
    assert again["refresh_token"] == second["refresh_token"]
    clock.advance(1)
    assert (await call("POST", "/v1/auth/refresh", **ask))[1]["error"] == "refresh_reused"


async def test_refresh_tokens_live_30_days(call, wallet, clock):
    session = await call.login(wallet)
    clock.advance(2_592_000_000)
    status, answer, _ = await call("POST", "/v1/auth/refresh", json={"refresh_token": session["refresh_token"]})
    assert (status, answer["error"]) == (401, "unauthorized")


async def test_logout_ends_the_login_at_once(call, wallet):
    session = await call.login(wallet)
    other = await call.login(wallet)
    status, body, _ = await call("POST", "/v1/auth/logout", token=session["token"])
    assert (status, body) == (204, b"")
    assert (await call("POST", "/v1/auth/logout", token=session["token"]))[0] == 401
    status, answer, _ = await call("POST", "/v1/auth/refresh", json={"refresh_token": session["refresh_token"]})
    assert (status, answer["error"]) == (401, "unauthorized")
    assert (await call("POST", "/v1/auth/logout", token=other["token"]))[0] == 204


async def test_a_token_expires_after_an_hour_and_30_seconds_of_leeway(call, wallet, clock):
    session = await call.login(wallet)
    clock.advance(3_630_000)
    other = await call.login(wallet)
    assert (await call("POST", "/v1/auth/logout", token=session["token"]))[0] == 204
    clock.advance(3_631_000)
    status, answer, _ = await call("POST", "/v1/auth/logout", token=other["token"])
    assert (status, answer["error"]) == (401, "token_expired")


async def test_forged_tokens_are_refused(call, wallet, market):
    session = await call.login(wallet)
    header = jwt.get_unverified_header(session["token"])
    claims = jwt.decode(session["token"], options={"verify_signature": False})
    key = market.tokens._ring.signing_key
    none = base64.urlsafe_b64encode(b'{"alg":"none","kid":"%s"}' % header["kid"].encode()).rstrip(b"=").decode()
    forged = [
        session["token"][:-3] + "AAA",
        jwt.encode(claims, b"x" * 32, algorithm="HS256", headers={"kid": header["kid"]}),
        jwt.encode(claims, key, algorithm="HS256", headers={"kid": "other"}),
        jwt.encode(claims, key, algorithm="HS256"),
        jwt.encode(claims, key + key, algorithm="HS512", headers={"kid": header["kid"]}),
        jwt.encode({**claims, "aud": "other"}, key, algorithm="HS256", headers={"kid": header["kid"]}),
        jwt.encode({**claims, "iss": "https://evil"}, key, algorithm="HS256", headers={"kid": header["kid"]}),
        jwt.encode({**claims, "sid": "login_unknown"}, key, algorithm="HS256", headers={"kid": header["kid"]}),
        jwt.encode({**claims, "sub": "acct_x"}, key, algorithm="HS256", headers={"kid": header["kid"]}),
        jwt.encode({**claims, "nbf": claims["nbf"] + 31}, key, algorithm="HS256", headers={"kid": header["kid"]}),
        jwt.encode(
            {name: value for name, value in claims.items() if name != "exp"},
            key,
            algorithm="HS256",
            headers={"kid": header["kid"]},
        ),
        none + "." + session["token"].split(".")[1] + ".",
        "eyJ",
        "a.b.c",
        "x" * 5000,
    ]
    for token in forged:
        status, answer, headers = await call("POST", "/v1/auth/logout", token=token)
        assert (status, answer["error"]) == (401, "unauthorized"), token
        assert headers["WWW-Authenticate"] == "Bearer"
    assert (await call("POST", "/v1/auth/logout", token=session["token"]))[0] == 204


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Basic abc"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer  two"},
        {"X-Api-Key": "rk_unknown"},
        {"Authorization": "Bearer abc", "X-Api-Key": "rk_unknown"},
    ],
)
async def test_anything_but_one_bearer_token_is_refused(call, headers):
    status, answer, got = await call("POST", "/v1/auth/logout", headers=headers)
    assert (status, answer["error"]) == (401, "unauthorized")
    assert got["WWW-Authenticate"] == "Bearer"


async def test_purpose_node_needs_nodes(call, wallet):
    status, answer, _ = await call("GET", f"/v1/auth/challenge?wallet={wallet.address}&purpose=theft")
    assert (status, answer["details"][0]["allowed"]) == (422, ["login", "node"])
