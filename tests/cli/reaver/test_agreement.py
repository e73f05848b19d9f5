"""Before a wallet signs: the effect in words, and the question on a terminal."""

import json
from collections.abc import Iterator

import pytest

from marketplace.cli.reaver.exits import Exit
from tests.cli.reaver.conftest import Reaver, served
from tests.cli.reaver.test_terminal import ANSI, Terminal
from tests.client.stake_market import StakeMarket

DELEGATE = ("stake", "delegate", "--node", "node_1", "--amount", "25")


@pytest.fixture
def market() -> Iterator[StakeMarket]:
    fake = StakeMarket()
    with served(fake):
        yield fake


@pytest.fixture
def terminal(market: StakeMarket, environment: dict[str, str]) -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for each in opened:
        each.close()


def test_no_means_no(market: StakeMarket, environment: dict[str, str], terminal: list[Terminal]) -> None:
    asked = Terminal(market, environment, *DELEGATE)
    terminal.append(asked)
    asked.read_until("stakes 25.000000 stake tokens on node")
    asked.read_until("wallet: 100.000000 → 75.000000 stake tokens")
    asked.read_until("Sign and send? [y/N]")
    asked.type("n\n")
    assert "nothing was signed" in asked.read_all()
    assert asked.process.wait(60) == Exit.DECLINED
    assert market.signed == []


def test_yes_signs_once(market: StakeMarket, environment: dict[str, str], terminal: list[Terminal]) -> None:
    asked = Terminal(market, environment, *DELEGATE)
    terminal.append(asked)
    asked.read_until("Sign and send?")
    assert market.signed == []
    asked.type("y\n")
    assert "Confirmed: stakes 25.000000" in ANSI.sub("", asked.read_all())
    assert asked.process.wait(60) == Exit.DONE
    assert len(market.signed) == 1


def test_yes_beforehand_is_not_asked(
    market: StakeMarket, environment: dict[str, str], terminal: list[Terminal]
) -> None:
    told = Terminal(market, environment, *DELEGATE, "--yes")
    terminal.append(told)
    shown = ANSI.sub("", told.read_all())
    assert "Confirmed: stakes 25.000000" in shown
    assert "Sign and send?" not in shown
    assert told.process.wait(60) == Exit.DONE


def test_in_a_pipe_giving_the_command_is_the_leave(reaver: Reaver, market: StakeMarket) -> None:
    done = reaver(*DELEGATE, "--json")
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["transactions"][0]["effects"]["wallet_stake"] == {"before": "100.000000", "after": "75.000000"}
    assert "believe me" not in done.stdout
    assert len(market.signed) == 1


def test_a_lie_is_not_put_to_the_question(reaver: Reaver, market: StakeMarket) -> None:
    market.offer_change = lambda answer: answer | {"transaction": "AAAA"}
    done = reaver(*DELEGATE)
    assert done.exit_code == Exit.UNSAFE
    assert "Sign and send" not in done.stderr
    assert market.signed == []
