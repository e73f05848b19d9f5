"""Runs a command: builds the client it needs, and turns every error into a message, a hint and an exit code."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import typer

from marketplace.cli.reaver.exits import Exit
from marketplace.cli.reaver.options import API_KEY_FILE
from marketplace.cli.reaver.output import Output

if TYPE_CHECKING:
    from marketplace.client.client import ReaverClient
    from marketplace.client.errors import ApiError

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Connection:
    """What the options said about wallet, market and chain."""

    api: str
    keypair: Path | None = None
    rpc: str | None = None
    program: str | None = None
    market: str | None = None

    @asynccontextmanager
    async def client(self) -> "AsyncIterator[ReaverClient]":
        """A client with the wallet, the cached login and the intents of this user.

        With an API key that speaks for the account, and a wallet only where one was named.
        """
        from marketplace.client.client import ReaverClient
        from marketplace.client.intents import IntentStore
        from marketplace.client.keypairs import DEFAULT_KEYPAIR, load_keypair
        from marketplace.client.known_markets import KnownMarkets
        from marketplace.client.pins import Pins
        from marketplace.client.relay import RpcRelay
        from marketplace.client.tokens import TokenCache

        folder = state_folder()
        api_key = given_api_key()
        wallet = None if api_key is not None and self.keypair is None else load_keypair(self.keypair or DEFAULT_KEYPAIR)
        async with AsyncExitStack() as stack:
            relay = None
            if self.rpc is not None:
                from marketplace.chain.rpc import RpcClient

                relay = RpcRelay(await stack.enter_async_context(RpcClient([self.rpc])))
            client = ReaverClient(
                self.api,
                wallet,
                TokenCache(folder),
                api_key=api_key,
                intents=IntentStore(folder),
                known_markets=KnownMarkets(folder),
                pins=Pins(self.program, self.market),
                relay=relay,
            )
            yield await stack.enter_async_context(client)


def given_api_key() -> str | None:
    """The API key of REAVER_API_KEY or of the file named by `reaver --api-key-file`; None where there is none.

    Raises KeypairError. No command takes it as an argument: those can be read by every process of the machine.
    """
    from marketplace.client.errors import KeypairError

    file = API_KEY_FILE.get()
    hidden = os.environ.get("REAVER_API_KEY", "").strip()
    if file is None:
        return hidden or None
    if hidden:
        raise KeypairError("there are two API keys, in REAVER_API_KEY and in the file of --api-key-file; give one")
    try:
        found = file.expanduser().read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise KeypairError(f"the API key's file {file} can't be read: {error}") from None
    if not found:
        raise KeypairError(f"the API key's file {file} is empty")
    return found


def state_folder() -> Path:
    """Where logins and open intents are kept; REAVER_STATE_DIR replaces the platform's own place."""
    from platformdirs import user_state_path

    given = os.environ.get("REAVER_STATE_DIR")
    return Path(given) if given else user_state_path("reaver", appauthor=False)


def run(output: Output, work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """The result of `work`; any error of it ends the process with a message and its exit code.

    KeyboardInterrupt passes: a command that follows a job asks what is meant by it.
    """
    try:
        return asyncio.run(work())
    except (typer.Exit, KeyboardInterrupt, BrokenPipeError):  # whoever read us has enough, such as `| head`
        raise
    except Exception as error:  # noqa: BLE001 - the outer edge: every error becomes an exit code here
        fail(output, error)


def described(output: Output, read: Callable[[], _T]) -> _T:
    """What the options and files describe; a wrong one ends the process as `run` does."""
    try:
        return read()
    except typer.BadParameter:
        raise
    except Exception as error:  # noqa: BLE001 - the outer edge: every error becomes an exit code here
        fail(output, error)


async def with_client(connection: Connection, use: "Callable[[ReaverClient], Awaitable[_T]]") -> _T:
    """Open the client, use it, close it."""
    async with connection.client() as client:
        return await use(client)


@dataclass(frozen=True, slots=True)
class _Report:
    code: Exit
    name: str
    message: str
    hints: tuple[str, ...] = ()
    extra: Mapping[str, object] = field(default_factory=dict)


def explain(error: Exception) -> tuple[Exit, str]:
    """What an error would end a command with, and its message."""
    report = _report(error)
    return report.code, report.message


def fail(output: Output, error: Exception) -> NoReturn:
    """Print the error and end with its code."""
    report = _report(error)
    output.error(report.name, report.message, report.hints, report.extra)
    raise typer.Exit(int(report.code)) from None


def _report(error: Exception) -> _Report:
    known = _of_client(error) or _of_request(error)
    if known is not None:
        return known
    if isinstance(error, OSError) and error.strerror:
        where = "" if error.filename is None else f"{error.filename}: "
        return _Report(Exit.INTERNAL, "local_error", f"{where}{error.strerror}")
    hint = "this is a fault of reaver itself; give the same command again, it does not pay twice"
    return _Report(Exit.INTERNAL, "internal_error", f"{type(error).__name__}: {error}", (hint,))


def _of_client(error: Exception) -> _Report | None:
    from marketplace.client import errors
    from marketplace.client.jobfiles import BadJobFile

    if isinstance(error, BadJobFile):
        first, *others = (problem.text(error.file) for problem in error.problems)
        return _Report(Exit.USAGE, "bad_job_file", first, (*others, "docs/jobfile.md lists every field"))
    if isinstance(error, errors.ApiError):
        extra = {"status": error.status, "request_id": error.request_id} | dict(error.extra)
        return _Report(_exit_of(error), error.code, error.message, tuple(_hints(error)), extra)
    kinds: tuple[tuple[tuple[type[Exception], ...], Exit, str], ...] = (
        ((errors.UnsafeToSign, errors.MarketChanged), Exit.UNSAFE, "unsafe_to_sign"),
        ((errors.LoginNeeded, errors.KeypairError), Exit.LOGIN, "login_needed"),
        ((errors.Unreachable, errors.NotConfirmed), Exit.UNAVAILABLE, "unavailable"),
        ((errors.NoPrice,), Exit.REFUSED, "no_price"),
        ((errors.Declined,), Exit.DECLINED, "declined"),
        ((errors.NotHere,), Exit.USAGE, "not_here"),
        ((errors.TransactionFailed,), Exit.REFUSED, "transaction_failed"),
        ((errors.ClientError,), Exit.INTERNAL, "malformed_answer"),
    )
    for types, code, name in kinds:
        if isinstance(error, types):
            hints = ("name it with --max-price-per-hour",) if isinstance(error, errors.NoPrice) else ()
            return _Report(code, name, str(error), hints)
    return None


def _of_request(error: Exception) -> _Report | None:
    from marketplace.domain.catalogue import UnknownName
    from marketplace.domain.money import AmountOverflow, MalformedAmount
    from marketplace.errors import MarketError

    match error:
        case UnknownName():
            near = (f"nearest: {', '.join(error.suggestions)}",) if error.suggestions else ()
            return _Report(Exit.USAGE, "unknown_name", f"the catalogue has no {error.name!r}", near)
        case MalformedAmount():
            form = "digits with a point, no more places than the token, such as 12.5"
            return _Report(Exit.USAGE, "invalid_amount", f"{str(error)!r} is not an amount: {form}")
        case AmountOverflow():
            return _Report(Exit.USAGE, "invalid_amount", "the amount is more than the chain can hold")
        case MarketError():
            name = error.code.public
            step = _NEXT_STEPS.get(name)
            return _Report(_exit_of_status(error.code.status), name, error.message, () if step is None else (step,))
        case ValueError():
            return _Report(Exit.USAGE, "invalid_value", str(error))
        case _:
            return None


def _exit_of(error: "ApiError") -> Exit:
    if error.code in {"insufficient_escrow", "signature_required", "wallet_required", "spend_limit"}:
        return Exit.FUNDS
    return _exit_of_status(error.status)


def _exit_of_status(status: int) -> Exit:
    if status == 401:
        return Exit.LOGIN
    if status == 402:
        return Exit.FUNDS
    return Exit.UNAVAILABLE if status in {429, 502, 503, 504} else Exit.REFUSED


_NEXT_STEPS = {
    "wallet_required": "log in with a wallet: reaver login",
    "signature_required": "an allowance must cover it (reaver allow grant --help); then give the same command again",
    "unauthorized": "log in: reaver login",
    "refresh_reused": "log in again: reaver login",
    "already_terminal": "the job is over: reaver jobs get JOB shows how it ended",
    "nothing_to_claim": "`reaver stake positions` shows what waits",
    "too_early": "`reaver stake positions` shows when each ticket unlocks",
    "not_ready": "it is not over yet: reaver jobs follow JOB",
    "chain_unavailable": "give the same command again: it goes on where it stood and pays once",
}


_LISTED = {
    "job": "jobs",
    "group": "groups",
    "file": "files",
    "API key": "keys",
    "webhook": "webhooks",
    "credential": "credentials",
    "registry login": "registries",
    "node": "nodes list",
    "escrow": "escrows",
    "model": "models",
}
"""Which command lists what the market didn't find, by the `resource` of its answer."""


def _hints(error: "ApiError") -> list[str]:
    hints = []
    listing = _LISTED.get(str(error.extra.get("resource")))
    if error.code == "not_found" and listing is not None:
        hints.append(f"`reaver {listing}` lists those there are")
    for detail in error.details:
        said = f"{detail.field}: {detail.message}"
        more = [f"nearest: {', '.join(detail.suggestions)}"] if detail.suggestions else []
        more += [f"one of: {', '.join(detail.allowed)}"] if detail.allowed else []
        if said not in error.message:
            hints.append(said + (f" ({'; '.join(more)})" if more else ""))
        elif more:
            # The message has said it already; of several fields each is named again.
            hints.append((f"{detail.field}: " if len(error.details) > 1 else "") + "; ".join(more))
    if error.code == "insufficient_escrow":
        names = ("required", "available", "wallet_balance", "shortfall", "currency")
        hints.extend(f"{n.replace('_', ' ')}: {error.extra[n]}" for n in names if error.extra.get(n) is not None)
        missing = "SOL for fees and rent" if error.extra.get("missing") == "lamports" else "the missing tokens"
        hints.append(f"send {missing} to your wallet, then give the same command again")
    if isinstance(possible_at := error.extra.get("possible_at"), str):
        hints.append(f"possible at: {possible_at}")
    if error.retry_after_s is not None:
        hints.append(f"try again in {error.retry_after_s} s")
    step = _NEXT_STEPS.get(error.code)
    if step is not None:
        hints.append(step)
    if error.request_id and error.status >= 500:
        hints.append(f"request id for the market's operator: {error.request_id}")
    return hints
