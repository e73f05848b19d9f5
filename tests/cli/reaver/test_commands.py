"""What the commands print and how they end, against a market over HTTP."""

import json
from pathlib import Path
from typing import Any

import pytest

from marketplace.cli.reaver.exits import EXIT_CODES, Exit
from marketplace.cli.reaver.output import exact_json, printable
from tests.cli.reaver.conftest import Reaver
from tests.client.fake_market import FakeMarket, error, key

RUN = ("run", "--image", "alpine", "--gpu", "cpu-small", "--max-minutes", "10")
GRANT = ("allow", "grant", "--per-job", "5", "--per-day", "20", "--total", "100", "--max-price-per-hour", "3")


def test_login_whoami_logout(market: FakeMarket, reaver: Reaver) -> None:
    done = reaver("login")
    assert (done.exit_code, done.stdout) == (0, f"Signed in to {market.base_url} as {key('wallet').pubkey()}\n")
    assert str(key("wallet").pubkey()) in reaver("whoami").stdout
    assert reaver("logout").stdout == "Logged out\n"
    assert json.loads(reaver("logout", "--json").stdout) == {"logged_out": False}


ONE_OBJECT = {
    "login": ("login",),
    "whoami": ("whoami",),
    "quote": ("quote", "--gpu", "cpu-small"),
    "run": RUN,
    "jobs": ("jobs",),
    "nodes": ("nodes",),
    "nodes list": ("nodes", "list", "--gpu", "cpu-small"),
    "nodes get": ("nodes", "get", "node_1"),
    "balance": ("vault", "balance"),
    "deposit": ("vault", "deposit", "2"),
    "withdraw": ("vault", "withdraw", "all"),
    "grant": GRANT,
    "revoke": ("allow", "revoke"),
    "show": ("allow", "show"),
}


@pytest.mark.parametrize("arguments", ONE_OBJECT.values(), ids=ONE_OBJECT.keys())
def test_json_prints_one_object(reaver: Reaver, arguments: tuple[str, ...]) -> None:
    done = reaver(*arguments, "--json")
    assert done.exit_code == 0, done.stderr
    assert isinstance(json.loads(done.stdout), dict)


def test_a_quote_shows_the_price_and_what_it_holds_for(reaver: Reaver) -> None:
    done = reaver("quote", "--gpu", "cpu-small", "--max-minutes", "10")
    assert "0.360000 USDC an hour" in done.stdout
    assert "0.060000 USDC for 10 min" in done.stdout
    assert "4 % market, 1 % protocol" in done.stdout


def test_a_quote_without_a_match_says_why_and_what_would_help(market: FakeMarket, reaver: Reaver) -> None:
    market.quote_change = lambda q: (
        q
        | {
            "match": False,
            "nodes_now": 0,
            "because": [{"constraint": "price", "wanted": "0.100000", "best": "0.350000", "nodes_excluded": 2}],
            "nearest": {"change": {"max_price_per_hour": "0.350000"}, "nodes_then": 2, "price_per_hour": "0.350000"},
        }
    )
    done = reaver("quote", "--gpu", "cpu-small", "--max-price-per-hour", "0.1")
    assert "price: wanted 0.100000, best on offer 0.350000 (2 nodes)" in done.stdout
    assert "max_price_per_hour = 0.350000" in done.stdout


def test_a_quote_without_a_price_says_so(market: FakeMarket, reaver: Reaver) -> None:
    nothing = dict.fromkeys(("quote", "price_per_hour", "price_per_hour_units", "max_total", "price_per_gpu_second"))
    market.quote_change = lambda q: q | nothing | {"match": False, "nodes_now": 0}
    done = reaver("quote", "--gpu", "cpu-small")
    assert "none: nobody offers this yet" in done.stdout
    assert "None" not in done.stdout
    refused = reaver(*RUN)
    assert refused.exit_code == Exit.REFUSED
    assert "--max-price-per-hour" in refused.stderr


def test_run_signs_an_escrow_where_there_is_no_allowance(market: FakeMarket, reaver: Reaver) -> None:
    done = reaver(*RUN, "--env", "A=b=c", "--region", "eu", "--", "echo", "--flag")
    assert done.exit_code == 0, done.stderr
    assert len(market.signed) == 1
    body = market.spent("/v1/jobs")[-1].body
    assert body["command"] == ["echo", "--flag"]
    assert body["env"] == {"A": "b=c"}
    assert (body["gpu"], body["region"], body["maxMinutes"]) == ("cpu-small", "eu", 10)


def test_class_is_another_word_for_gpu(market: FakeMarket, reaver: Reaver) -> None:
    assert reaver("run", "--image", "alpine", "--class", "cpu-small").exit_code == 0
    assert market.spent("/v1/jobs")[-1].body["gpu"] == "cpu-small"


@pytest.mark.parametrize("exit_code", [0, 7])
def test_following_ends_with_the_jobs_exit_code(market: FakeMarket, reaver: Reaver, exit_code: int) -> None:
    market.allowance = True
    market.exit_code = exit_code
    done = reaver(*RUN, "--follow", "--", "x")
    assert done.exit_code == exit_code
    assert done.stdout.startswith("one\ntwo\nthree\nJob job_")


def test_following_as_json_keeps_the_log_out_of_the_object(market: FakeMarket, reaver: Reaver) -> None:
    market.allowance = True
    done = reaver(*RUN, "--follow", "--json")
    assert json.loads(done.stdout)["settlement"]["refunded"] == "0.049600"
    assert "one\ntwo\nthree\n" in done.stderr


def test_a_job_without_an_exit_code_of_its_own(market: FakeMarket, reaver: Reaver) -> None:
    market.allowance = True
    job = _submitted(reaver)
    market.jobs[job] |= {"status": "expired", "exit_code": None, "reason": "queue_expired"}
    assert reaver("jobs", "follow", job).exit_code == Exit.NO_EXIT_CODE
    market.jobs[job] |= {"status": "cancelled", "exit_code": 0, "reason": "cancelled"}
    assert reaver("jobs", "follow", job).exit_code == Exit.NO_EXIT_CODE


def test_jobs_alone_lists_them(market: FakeMarket, reaver: Reaver) -> None:
    assert "no jobs yet" in reaver("jobs").stderr
    assert "no job is like that" in reaver("jobs", "--gpu", "a100").stderr
    market.allowance = True
    job = _submitted(reaver)
    lines = reaver("jobs").stdout.splitlines()
    assert lines[0].split() == ["job", "status", "reason", "image", "node", "cost", "created"]
    assert lines[1].split()[:2] == [job, "completed"]


def test_one_job_shows_where_the_money_went(market: FakeMarket, reaver: Reaver) -> None:
    market.allowance = True
    job = _submitted(reaver)
    shown = reaver("jobs", "get", job).stdout
    for text in ("deposit", "0.050000 USDC", "came back", "0.049600 USDC", "rent left", "0 lamports"):
        assert text in shown
    assert reaver("jobs", "logs", job).stdout == "one\ntwo\nthree\n"
    assert json.loads(reaver("jobs", "logs", job, "--json").stdout)["lines"] == ["one", "two", "three"]
    assert reaver("jobs", "logs", job, "--attempt", "1").stdout == "one\ntwo\nthree\n"
    assert reaver("jobs", "logs", job, "--follow").stdout == reaver("jobs", "follow", job).stdout
    assert "is cancelled" in reaver("jobs", "cancel", job).stdout
    # a line is what the job ended with a line feed, whatever else a progress bar writes
    market.log = ["5 %\r9 %", "", "a\u2028b"]
    assert json.loads(reaver("jobs", "logs", job, "--json").stdout)["lines"] == market.log
    market.log = []
    assert reaver("jobs", "logs", job).stdout == ""


def test_a_receipt_is_written_digit_for_digit(market: FakeMarket, reaver: Reaver, tmp_path: Path) -> None:
    market.allowance = True
    job = _submitted(reaver)
    file = tmp_path / "receipt.json"
    assert reaver("jobs", "receipt", job, "-o", str(file)).exit_code == 0
    assert '"unit_price": 0.1' in file.read_text()


def test_a_nodes_name_cannot_steer_the_terminal(reaver: Reaver) -> None:
    assert "\x1b" not in reaver("nodes", "get", "node_1").stdout
    assert printable("a\x1b[2Jb\tc\n") == "a�[2Jb\tc�"


def test_the_vault(market: FakeMarket, reaver: Reaver) -> None:
    assert "19.950000 USDC" in reaver("vault", "balance").stdout
    done = reaver("vault", "deposit", "2.5")
    assert done.stdout.startswith("Confirmed: deposits 2.500000 into the own vault\nTransaction ")
    assert market.spent("/v1/vault/deposit")[-1].body == {"amount": "2.500000"}


def test_an_allowance(market: FakeMarket, reaver: Reaver) -> None:
    done = reaver(*GRANT, "--expires", "2030-01-31T00:00:00Z")
    assert f"lets market {market.market} spend 5.000000 a job" in done.stdout
    assert market.spent("/v1/allowance")[-1].body["expires_at"] == "2030-01-31T00:00:00Z"
    assert "revokes" in reaver("allow", "revoke").stdout


# errors


def test_every_exit_code_is_documented() -> None:
    text = " ".join(EXIT_CODES.split())
    assert all(f"{int(code)} " in text for code in Exit)


def test_missing_money(market: FakeMarket, reaver: Reaver) -> None:
    extra = {"required": "0.06", "available": "0", "shortfall": "0.06", "currency": "USDC", "missing": "payment_token"}
    market.before["POST /v1/jobs"] = [error(402, "insufficient_escrow", "wallet balance below", **extra)]
    done = reaver(*RUN)
    assert done.exit_code == Exit.FUNDS
    assert "shortfall: 0.06" in done.stderr
    assert "same command again" in done.stderr
    assert done.stdout == ""


def test_a_lie_ends_with_its_own_code_and_signs_nothing(market: FakeMarket, reaver: Reaver) -> None:
    market.payer = key("thief").pubkey()
    done = reaver(*RUN)
    assert done.exit_code == Exit.UNSAFE
    assert "Nothing was signed" in done.stderr
    assert market.signed == []


def test_a_refusal_names_the_field_and_suggests(market: FakeMarket, reaver: Reaver) -> None:
    detail = {"field": "gpu", "code": "unknown_gpu", "message": "unknown class", "suggestions": ["h100"]}
    market.before["POST /v1/quote"] = [
        error(422, "validation_error", "gpu: unknown class", details=[detail]) for _ in range(2)
    ]
    done = reaver("quote", "--gpu", "h1000")
    assert done.exit_code == Exit.REFUSED
    assert done.stderr == "error: gpu: unknown class\n  nearest: h100\n"
    body: dict[str, Any] = json.loads(reaver("quote", "--gpu", "h1000", "--json").stderr)
    assert (body["error"], body["status"]) == ("validation_error", 422)


def test_a_refusal_is_said_once(market: FakeMarket, reaver: Reaver) -> None:
    detail = {"field": "amount", "code": "out_of_range", "message": "must be more than 0"}
    market.before["POST /v1/quote"] = [error(422, "validation_error", "amount: must be more than 0", details=[detail])]
    assert reaver("quote", "--gpu", "h100").stderr.count("must be more than 0") == 1


def test_an_unknown_job(reaver: Reaver) -> None:
    done = reaver("jobs", "get", "job_x")
    assert done.exit_code == Exit.REFUSED
    assert "`reaver jobs` lists those there are" in done.stderr


def test_what_was_wrong_with_an_amount_is_said(reaver: Reaver) -> None:
    too_much = reaver("vault", "deposit", "18446744073709551616")
    assert (too_much.exit_code, "more than the chain can hold" in too_much.stderr) == (Exit.USAGE, True)
    assert "no more places than the token" in reaver("vault", "deposit", "0.0000001").stderr


def test_too_early_says_when(market: FakeMarket, reaver: Reaver) -> None:
    refused = error(409, "too_early", "the unbonding time has not passed", possible_at="2026-11-24T00:00:00.000Z")
    market.before["POST /v1/stake/withdraw"] = [refused]
    done = reaver("stake", "withdraw")
    assert (done.exit_code, "possible at: 2026-11-24T00:00:00.000Z" in done.stderr) == (Exit.REFUSED, True)


def test_a_silent_chain_says_what_next(market: FakeMarket, reaver: Reaver) -> None:
    done = reaver("vault", "deposit", "1", "--rpc", "http://127.0.0.1:9")
    assert done.exit_code == Exit.UNAVAILABLE
    assert "give the same command again" in done.stderr
    assert market.signed == []


def test_no_market(environment: dict[str, str]) -> None:
    done = Reaver(environment | {"REAVER_API": "http://127.0.0.1:9"})("login")
    assert done.exit_code == Exit.UNAVAILABLE
    assert "REAVER_API" in done.stderr


def test_no_keypair(market: FakeMarket, environment: dict[str, str]) -> None:
    done = Reaver(environment | {"REAVER_API": market.base_url, "REAVER_KEYPAIR": "/nowhere"})("whoami")
    assert done.exit_code == Exit.LOGIN
    assert "solana-keygen" in done.stderr


WRONG_USAGE = {
    "env": (*RUN, "--env", "novalue"),
    "amount": ("vault", "deposit", "1,5"),
    "too many places": ("vault", "deposit", "0.0000001"),
    "expiry": (*GRANT, "--expires", "soon"),
    "naive expiry": (*GRANT, "--expires", "2030-01-01"),
    "id": ("jobs", "get", "../me"),
    "misplaced json": ("jobs", "--json", "get", "job_1"),
    "misplaced status": ("jobs", "--status", "running", "logs", "job_1"),
    "part of a followed log": ("jobs", "logs", "job_1", "--follow", "--tail", "1"),
    "minutes": ("run", "--image", "a", "--gpu", "cpu-small", "--max-minutes", "0"),
    "no image": ("run", "--gpu", "cpu-small"),
    "address": ("login", "--api", "ftp://x"),
    "stake amount": ("stake", "delegate", "--node", "node_1", "--amount", "1,5"),
    "stake places": ("stake", "delegate", "--node", "node_1", "--amount", "0.0000001"),
    "unbond nothing": ("stake", "unbond", "--node", "node_1"),
    "unbond twice": ("stake", "unbond", "--node", "node_1", "--all", "--amount", "1"),
    "unbond shares": ("stake", "unbond", "--node", "node_1", "--shares", "-1"),
    "claim both": ("stake", "claim", "--all", "--node", "node_1"),
    "withdraw both": ("stake", "withdraw", "--all", "--ticket", "x"),
    "no such order": ("stake", "nodes", "--sort", "beauty"),
    "simulate no epoch": ("stake", "simulate", "--node", "node_1", "--amount", "1", "--epochs", "0"),
    "region": (*RUN, "--region", "atlantis"),
}


@pytest.mark.parametrize("arguments", WRONG_USAGE.values(), ids=WRONG_USAGE.keys())
def test_wrong_usage(market: FakeMarket, reaver: Reaver, arguments: tuple[str, ...]) -> None:
    market.before["POST /v1/quote"] = [error(422, "validation_error", "x")] if "atlantis" in arguments else []
    done = reaver(*arguments)
    assert done.exit_code == (Exit.REFUSED if "atlantis" in arguments else Exit.USAGE), done.stderr
    assert done.stderr
    assert market.signed == []


def _submitted(reaver: Reaver) -> str:
    done = reaver(*RUN, "--json")
    assert done.exit_code == 0, done.stderr
    return str(json.loads(done.stdout)["id"])


def test_exact_json_never_rounds() -> None:
    from decimal import Decimal

    value = {"a": Decimal("0.10"), "b": [1, True, None, "x"], "c": {}, "d": [], "e": Decimal("1E-18")}
    text = exact_json(value)
    assert '"a": 0.10' in text
    assert '"e": 0.000000000000000001' in text
    assert json.loads(text)["b"] == [1, True, None, "x"]


def test_bars_are_as_long_as_their_part() -> None:
    from decimal import Decimal

    from marketplace.cli.reaver.commands.history import bar

    assert bar(Decimal(2), Decimal(2)) == "█" * 30
    assert bar(Decimal(1), Decimal(2)) == "█" * 15
    assert bar(Decimal("0.000001"), Decimal(2)) == "▏", "what is not zero is seen"
    assert (bar(Decimal(0), Decimal(2)), bar(Decimal(0), Decimal(0))) == ("", "")
