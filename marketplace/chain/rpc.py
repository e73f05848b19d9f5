"""Solana's JSON-RPC over aiohttp: typed questions, checked answers, several endpoints.

An endpoint that times out, is overloaded or answers in a wrong shape is passed over for the next one and
rests for a while; an endpoint's proper error is an answer and ends the call. Every method here may be asked
twice without harm: sending the same bytes again is how a transaction is kept alive.
"""

import asyncio
import base64
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from urllib.parse import urlsplit

import aiohttp
import orjson
from solders.hash import Hash
from solders.pubkey import Pubkey
from solders.signature import Signature

from marketplace.chain import answers
from marketplace.chain.answers import (
    AccountInfo,
    Commitment,
    LandedTransaction,
    LatestBlockhash,
    MalformedAnswer,
    SignatureInfo,
    SignatureStatus,
    Simulation,
    TokenAmount,
    TransactionFailure,
)
from marketplace.chain.errors import RpcError, RpcUnavailable

# Specified: one getSignatureStatuses call takes at most 256 signatures.
MAX_STATUSES: Final = 256
# Specified: one getMultipleAccounts call takes at most 100 addresses.
MAX_ACCOUNTS: Final = 100
# Specified: getSignaturesForAddress gives at most 1,000 lines, getRecentPrioritizationFees takes 128 keys.
MAX_HISTORY: Final = 1_000
MAX_FEE_ACCOUNTS: Final = 128
# Specified (stack.md 9): without this, blocks that hold v1 transactions are refused with -32015.
MAX_TRANSACTION_VERSION: Final = 1
# Solana's own "this node is behind" and "this node is unhealthy": another endpoint may know more.
_PASSING_ERRORS: Final = frozenset({-32004, -32005, -32014, -32016})
_READ_CHUNK: Final = 64 * 1024

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One RPC node. Its URL may hold a key, so only `host` is ever shown.

    requests_per_s: what its provider allows us; None for no limit of ours.
    """

    url: str
    requests_per_s: float | None = None

    @property
    def host(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)

    def redact(self, message: str) -> str:
        """`message` without anything of the URL that may be a key: user info, path and query."""
        parts = urlsplit(self.url)
        secrets = {parts.username, parts.password, parts.query, *parts.path.split("/")}
        secrets.update(pair.partition("=")[2] for pair in parts.query.split("&"))
        cleaned = message.replace(self.url, self.host)
        for secret in sorted((s for s in secrets if s and len(s) >= 4), key=len, reverse=True):
            cleaned = cleaned.replace(secret, "***")
        return cleaned[:300]


@dataclass(frozen=True, slots=True)
class ProgramFilter:
    """A condition of getProgramAccounts: the data's exact length, or bytes at an offset."""

    data_size: int | None = None
    offset: int = 0
    match: bytes | None = None

    def as_json(self) -> dict[str, Any]:
        if self.match is None:
            return {"dataSize": self.data_size}
        encoded = base64.b64encode(self.match).decode()
        return {"memcmp": {"offset": self.offset, "bytes": encoded, "encoding": "base64"}}


@dataclass(slots=True)
class _EndpointState:
    """What we remember of an endpoint: until when it rests, and its budget (a token bucket)."""

    endpoint: Endpoint
    rests_until: float = 0.0
    failures: int = 0
    tokens: float = 0.0
    refilled_at: float = 0.0

    def delay(self, now: float) -> float:
        """Seconds until the budget allows one more request; takes the token when it is 0."""
        rate = self.endpoint.requests_per_s
        if rate is None:
            return 0.0
        self.tokens = min(max(1.0, rate), self.tokens + (now - self.refilled_at) * rate)
        self.refilled_at = now
        if self.tokens >= 1.0:
            self.tokens -= 1.0
            return 0.0
        # A hair more than it takes, so that rounding can't ask for a second sleep of no length.
        return (1.0 - self.tokens) / rate + 1e-6


class _EndpointFailed(Exception):
    """This endpoint gave no usable answer. Caught by RpcClient.call, which tries the next."""


class RpcClient:
    """JSON-RPC client over one or several endpoints of the same cluster.

    Raises RpcUnavailable when no endpoint gave a usable answer, RpcError when one answered with an error.
    """

    def __init__(
        self,
        endpoints: Sequence[Endpoint | str],
        *,
        timeout_s: float = 10.0,
        rest_s: float = 2.0,
        max_answer_bytes: int = 64 * 1024 * 1024,
        session: aiohttp.ClientSession | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not endpoints:
            raise ValueError("an RPC client needs at least one endpoint")
        self._states = [
            _EndpointState(entry if isinstance(entry, Endpoint) else Endpoint(entry)) for entry in endpoints
        ]
        self._timeout_s = timeout_s
        self._rest_s = rest_s
        self._max_answer_bytes = max_answer_bytes
        self._session = session
        self._owns_session = session is None
        self._monotonic = monotonic
        self._sleep = sleep
        self._ids = itertools.count(1)
        self._jitter = random.Random()  # noqa: S311 - spreads retries, guards nothing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None and self._owns_session:
            await self._session.close()
            self._session = None

    async def call(self, method: str, params: Sequence[Any], read: Callable[[object, str], _T]) -> _T:
        """One question, asked of the endpoints in turn until one gives an answer that `read` accepts.

        Each endpoint is asked once. An endpoint that failed rests, longer with each failure in a row.
        """
        problems: list[str] = []
        for state in self._in_order():
            while (delay := state.delay(self._monotonic())) > 0:
                await self._sleep(delay)
            try:
                result = await self._ask(state.endpoint, method, params)
                value = read(result, method)
            except (_EndpointFailed, MalformedAnswer) as error:
                state.failures += 1
                pause = self._rest_s * min(2 ** (state.failures - 1), 16)
                state.rests_until = self._monotonic() + pause * (0.75 + self._jitter.random() / 2)
                problems.append(f"{state.endpoint.host}: {state.endpoint.redact(str(error))}")
                continue
            state.failures = 0
            state.rests_until = 0.0
            return value
        raise RpcUnavailable(f"{method}: no usable answer from the chain ({'; '.join(problems)})")

    def _in_order(self) -> list[_EndpointState]:
        """Awake endpoints first, as configured; resting ones last, soonest awake first, so none is lost."""
        now = self._monotonic()
        return sorted(self._states, key=lambda state: max(0.0, state.rests_until - now))

    async def _ask(self, endpoint: Endpoint, method: str, params: Sequence[Any]) -> object:
        body = orjson.dumps({"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": list(params)})
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._http().post(
                    endpoint.url,
                    data=body,
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as response,
            ):
                raw = await self._read(response)
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _EndpointFailed(f"{type(error).__name__}: {error}") from error
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise _EndpointFailed(f"HTTP {status}, not JSON") from error
        fields = answers.mapping(answer, method)
        if fields.get("error") is not None:
            raise self._as_error(endpoint, method, fields["error"])
        if status != 200 or "result" not in fields:
            raise _EndpointFailed(f"HTTP {status} without a result")
        result: object = fields["result"]
        return result

    async def _read(self, response: aiohttp.ClientResponse) -> bytes:
        """The body, cut off at the limit: an endpoint must not be able to fill our memory."""
        parts = bytearray()
        async for chunk in response.content.iter_chunked(_READ_CHUNK):
            parts += chunk
            if len(parts) > self._max_answer_bytes:
                raise _EndpointFailed(f"an answer of more than {self._max_answer_bytes} bytes")
        return bytes(parts)

    def _as_error(self, endpoint: Endpoint, method: str, value: object) -> Exception:
        error = answers.mapping(value, f"{method}.error")
        code = answers.field(error, "code", f"{method}.error", _integer)
        message = endpoint.redact(str(error.get("message", "")))
        if code in _PASSING_ERRORS:
            return _EndpointFailed(f"{message} ({code})")
        data = error.get("data")
        if not isinstance(data, Mapping):
            return RpcError(method, code, message)
        failure = TransactionFailure.parse(data.get("err"), f"{method}.error.data.err")
        return RpcError(method, code, message, failure, answers.logs(data.get("logs"), f"{method}.error"))

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession()
        return self._session

    # The cluster

    async def get_health(self) -> bool:
        """Whether an endpoint says that it is in step with its cluster."""
        try:
            return await self.call("getHealth", [], answers.text) == "ok"
        except (RpcError, RpcUnavailable):
            return False

    async def get_version(self) -> str:
        return await self.call("getVersion", [], lambda v, w: answers.field(v, "solana-core", w, answers.text))

    async def get_genesis_hash(self) -> Hash:
        return await self.call("getGenesisHash", [], answers.blockhash)

    async def get_slot(self, commitment: Commitment = Commitment.CONFIRMED) -> int:
        return await self.call("getSlot", [{"commitment": commitment}], answers.unsigned)

    async def get_block_height(self, commitment: Commitment = Commitment.CONFIRMED) -> int:
        return await self.call("getBlockHeight", [{"commitment": commitment}], answers.unsigned)

    async def get_block_time(self, slot: int) -> int | None:
        """Unix seconds of a slot, as estimated by the cluster; None where it isn't known."""
        return await self.call("getBlockTime", [slot], answers.optional_integer)

    async def get_latest_blockhash(self) -> LatestBlockhash:
        """At `confirmed`, never `processed`: a blockhash of a dropped fork could never land."""

        def read(value: object, where: str) -> LatestBlockhash:
            slot, inner = answers.contextual(value, where)
            return LatestBlockhash(
                blockhash=answers.field(inner, "blockhash", where, answers.blockhash),
                last_valid_block_height=answers.field(inner, "lastValidBlockHeight", where, answers.unsigned),
                slot=slot,
            )

        return await self.call("getLatestBlockhash", [{"commitment": Commitment.CONFIRMED}], read)

    async def is_blockhash_valid(self, blockhash: Hash, commitment: Commitment = Commitment.CONFIRMED) -> bool:
        return await self.call(
            "isBlockhashValid",
            [str(blockhash), {"commitment": commitment}],
            lambda v, w: answers.boolean(answers.contextual(v, w)[1], w),
        )

    async def get_minimum_balance_for_rent_exemption(self, data_bytes: int) -> int:
        return await self.call("getMinimumBalanceForRentExemption", [data_bytes], answers.unsigned)

    async def get_recent_prioritization_fees(self, accounts: Sequence[Pubkey]) -> tuple[int, ...]:
        """Micro-lamports per compute unit that lately sufficed to write these accounts (at most 128)."""
        keys = [str(key) for key in accounts[:MAX_FEE_ACCOUNTS]]
        return await self.call(
            "getRecentPrioritizationFees",
            [keys],
            lambda v, w: tuple(
                answers.field(item, "prioritizationFee", w, answers.unsigned) for item in answers.sequence(v, w)
            ),
        )

    async def get_fee_for_message(self, message: bytes) -> int | None:
        """Lamports the cluster would take for this message; None when its blockhash is too old."""

        def read(value: object, where: str) -> int | None:
            fee = answers.contextual(value, where)[1]
            return None if fee is None else answers.unsigned(fee, where)

        encoded = base64.b64encode(message).decode()
        return await self.call("getFeeForMessage", [encoded, {"commitment": Commitment.CONFIRMED}], read)

    async def request_airdrop(self, address: Pubkey, lamports: int) -> Signature:
        """Test clusters and the localnet only; raises RpcError elsewhere."""
        return await self.call("requestAirdrop", [str(address), lamports], answers.signature)

    # Accounts

    async def get_balance(self, address: Pubkey, commitment: Commitment = Commitment.CONFIRMED) -> int:
        return await self.call(
            "getBalance",
            [str(address), {"commitment": commitment}],
            lambda v, w: answers.unsigned(answers.contextual(v, w)[1], w),
        )

    async def find_account(self, address: Pubkey, commitment: Commitment = Commitment.CONFIRMED) -> AccountInfo | None:
        """The account, or None where the chain has none at this address."""

        def read(value: object, where: str) -> AccountInfo | None:
            slot, inner = answers.contextual(value, where)
            return None if inner is None else answers.account_info(inner, where, address, slot)

        options = {"encoding": "base64", "commitment": commitment}
        return await self.call("getAccountInfo", [str(address), options], read)

    async def list_accounts(
        self, addresses: Sequence[Pubkey], commitment: Commitment = Commitment.CONFIRMED
    ) -> list[AccountInfo | None]:
        """One entry per address, in order, None where there is no account. Any number of addresses."""
        found: list[AccountInfo | None] = []
        for batch in _batches(addresses, MAX_ACCOUNTS):
            found.extend(await self._some_accounts(batch, commitment))
        return found

    async def _some_accounts(self, batch: Sequence[Pubkey], commitment: Commitment) -> list[AccountInfo | None]:
        def read(value: object, where: str) -> list[AccountInfo | None]:
            slot, inner = answers.contextual(value, where)
            listed = answers.sequence(inner, where)
            if len(listed) != len(batch):
                raise MalformedAnswer(f"{where}: {len(listed)} accounts for {len(batch)} addresses")
            return [
                None if item is None else answers.account_info(item, where, address, slot)
                for address, item in zip(batch, listed, strict=True)
            ]

        keys = [str(address) for address in batch]
        options = {"encoding": "base64", "commitment": commitment}
        return await self.call("getMultipleAccounts", [keys, options], read)

    async def list_program_accounts(
        self,
        program: Pubkey,
        filters: Sequence[ProgramFilter],
        commitment: Commitment = Commitment.CONFIRMED,
    ) -> list[AccountInfo]:
        """All accounts of a program that pass every filter; the owner of each is checked again here."""

        def read(value: object, where: str) -> list[AccountInfo]:
            slot, inner = answers.contextual(value, where)
            found = []
            for item in answers.sequence(inner, where):
                address = answers.field(item, "pubkey", where, answers.pubkey)
                account = answers.account_info(
                    answers.field(item, "account", where, answers.mapping), where, address, slot
                )
                if account.owner != program:
                    raise MalformedAnswer(f"{where}: {address} belongs to another program")
                found.append(account)
            return found

        options = {
            "encoding": "base64",
            "commitment": commitment,
            "withContext": True,
            "filters": [condition.as_json() for condition in filters],
        }
        return await self.call("getProgramAccounts", [str(program), options], read)

    async def list_program_addresses(
        self,
        program: Pubkey,
        filters: Sequence[ProgramFilter],
        commitment: Commitment = Commitment.CONFIRMED,
    ) -> list[Pubkey]:
        """As `list_program_accounts`, without the accounts' data."""

        def read(value: object, where: str) -> list[Pubkey]:
            _, inner = answers.contextual(value, where)
            return [answers.field(item, "pubkey", where, answers.pubkey) for item in answers.sequence(inner, where)]

        options = {
            "encoding": "base64",
            "commitment": commitment,
            "withContext": True,
            "filters": [condition.as_json() for condition in filters],
            "dataSlice": {"offset": 0, "length": 0},
        }
        return await self.call("getProgramAccounts", [str(program), options], read)

    async def get_token_account_balance(
        self, address: Pubkey, commitment: Commitment = Commitment.CONFIRMED
    ) -> TokenAmount:
        """Raises RpcError where there is no such token account."""
        return await self.call(
            "getTokenAccountBalance",
            [str(address), {"commitment": commitment}],
            lambda v, w: answers.token_amount(answers.contextual(v, w)[1], w),
        )

    async def get_token_supply(self, mint: Pubkey, commitment: Commitment = Commitment.CONFIRMED) -> TokenAmount:
        return await self.call(
            "getTokenSupply",
            [str(mint), {"commitment": commitment}],
            lambda v, w: answers.token_amount(answers.contextual(v, w)[1], w),
        )

    # Transactions

    async def simulate_transaction(self, transaction: bytes, *, replace_blockhash: bool = False) -> Simulation:
        """What signed bytes would do at `confirmed`; with `replace_blockhash`, unsigned ones too."""
        options = {
            "encoding": "base64",
            "commitment": Commitment.CONFIRMED,
            "sigVerify": not replace_blockhash,
            "replaceRecentBlockhash": replace_blockhash,
        }
        encoded = base64.b64encode(transaction).decode()
        return await self.call("simulateTransaction", [encoded, options], answers.simulation)

    async def send_transaction(self, transaction: bytes, *, skip_preflight: bool = True) -> Signature:
        """Hand signed bytes to the cluster, which is asked not to retry: we rebroadcast them ourselves.

        Raises RpcError with `failure` when preflight refuses. An answer means received, never landed.
        """
        options = {
            "encoding": "base64",
            "skipPreflight": skip_preflight,
            "preflightCommitment": Commitment.CONFIRMED,
            "maxRetries": 0,
        }
        encoded = base64.b64encode(transaction).decode()
        return await self.call("sendTransaction", [encoded, options], answers.signature)

    async def get_signature_statuses(
        self, signatures: Sequence[Signature], *, search_history: bool = False
    ) -> list[SignatureStatus | None]:
        """One entry per signature, in order; None where the cluster doesn't know it. Any number.

        search_history: look beyond the recent past too. A plain None only means "not lately".
        """
        found: list[SignatureStatus | None] = []
        for batch in _batches(signatures, MAX_STATUSES):
            count = len(batch)

            def read(value: object, where: str, count: int = count) -> list[SignatureStatus | None]:
                listed = answers.sequence(answers.contextual(value, where)[1], where)
                if len(listed) != count:
                    raise MalformedAnswer(f"{where}: {len(listed)} statuses for {count} signatures")
                return [answers.signature_status(item, where) for item in listed]

            params = [[str(s) for s in batch], {"searchTransactionHistory": search_history}]
            found.extend(await self.call("getSignatureStatuses", params, read))
        return found

    async def find_transaction(
        self, signature: Signature, commitment: Commitment = Commitment.CONFIRMED
    ) -> LandedTransaction | None:
        """A landed transaction of any version, or None where it isn't known at this commitment."""
        options = {
            "encoding": "json",
            "commitment": commitment,
            "maxSupportedTransactionVersion": MAX_TRANSACTION_VERSION,
        }
        return await self.call(
            "getTransaction",
            [str(signature), options],
            lambda v, w: answers.landed_transaction(v, w, signature),
        )

    async def list_signatures(
        self,
        address: Pubkey,
        *,
        before: Signature | None = None,
        until: Signature | None = None,
        limit: int = MAX_HISTORY,
        commitment: Commitment = Commitment.CONFIRMED,
        min_slot: int | None = None,
    ) -> list[SignatureInfo]:
        """One page of an address's history, newest first: older than `before`, newer than `until`.

        min_slot: an endpoint that hasn't come so far yet is passed over.
        """
        options: dict[str, Any] = {"limit": limit, "commitment": commitment}
        if min_slot is not None:
            options["minContextSlot"] = min_slot
        if before is not None:
            options["before"] = str(before)
        if until is not None:
            options["until"] = str(until)
        return await self.call(
            "getSignaturesForAddress",
            [str(address), options],
            lambda v, w: [answers.signature_info(item, w) for item in answers.sequence(v, w)],
        )


def _integer(value: object, where: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise MalformedAnswer(f"{where}: expected an integer")
    return value


def _batches(items: Sequence[_T], size: int) -> list[Sequence[_T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]
