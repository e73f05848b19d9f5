"""Keys, configuration and journal on disk."""

import fcntl
import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from marketplace.domain.reasons import Reason
from marketplace.protocol.control import AttemptState, SignedVoucher, StateReport
from node import keys, settings
from node.clock import Anchor
from node.errors import ConfigUnusable
from node.journal import Accepted, Attempt, Ending, Journal, JournalUnusable, JournalView, Step, Stop, read_only
from tests.node.conftest import IDENTITY
from tests.node.scripted_market import ScriptedMarket, spec


def test_a_key_file_is_solanas_and_its_owners_only(tmp_path: Path) -> None:
    from solders.keypair import Keypair

    pair = keys.generate()
    path = tmp_path / "deep" / "node.json"
    keys.write(path, pair)
    assert path.stat().st_mode & 0o777 == 0o600
    assert str(Keypair.from_bytes(bytes(json.loads(path.read_text()))).pubkey()) == pair.address
    assert keys.load(path) == pair
    assert repr(pair.seed) not in repr(pair)
    with pytest.raises(FileExistsError):
        keys.write(path, keys.generate())
    assert keys.load(path) == pair


@pytest.mark.parametrize("text", ["", "[]", "[1, 2]", '"text"', json.dumps([0] * 64), json.dumps([300] * 64)])
def test_a_broken_key_file_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "node.json"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(keys.KeyUnusable):
        keys.load(path)


def test_a_key_that_others_can_read_is_refused_with_the_cure(tmp_path: Path) -> None:
    path = tmp_path / "node.json"
    keys.write(path, keys.generate())
    path.chmod(0o644)
    with pytest.raises(keys.KeyUnusable, match="chmod 600"):
        keys.load(path)


def written(tmp_path: Path) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(
        settings.template(
            market_url="http://127.0.0.1:8787",
            rpc_url="",
            region="eu",
            class_id="cpu-small",
            slots=3,
            kind=settings.RuntimeKind.DOCKER,
        )
    )
    return file


def test_the_written_configuration_can_be_read_and_updated_without_losing_a_comment(tmp_path: Path) -> None:
    file = written(tmp_path)
    assert settings.load(file).node.slots == 3
    before = [line.partition("#")[2] for line in file.read_text().splitlines()]
    settings.update(file, {"node": {"id": "node_1"}, "market": {"decimals": 9}})
    assert settings.load(file).node.id == "node_1"
    assert settings.load(file).market.decimals == 9
    assert [line.partition("#")[2] for line in file.read_text().splitlines()] == before


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("slots = 3", "slots = 0", "node.slots"),
        ("slots = 3", "slotz = 3", "node.slotz"),
        ('region = "eu"', 'region = "mars"', "node.region"),
        ('class_id = "cpu-small"', 'class_id = "abacus"', "node.class_id"),
        ('price_floor_per_gpu_second = "0.000001"', 'price_floor_per_gpu_second = "cheap"', "price_floor"),
        ('url = "http://127.0.0.1:8787"', 'url = "127.0.0.1"', "market.url"),
        ("[node]", "[node", "can't be read"),
    ],
)
def test_a_wrong_setting_is_named(tmp_path: Path, old: str, new: str, named: str) -> None:
    file = written(tmp_path)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    with pytest.raises(ConfigUnusable, match=named):
        settings.load(file)


def test_the_process_runtime_serves_no_strangers(tmp_path: Path) -> None:
    file = written(tmp_path)
    text = file.read_text().replace('kind = "docker"', 'kind = "process"')
    file.write_text(text)
    assert settings.load(file).runtime.kind is settings.RuntimeKind.PROCESS
    file.write_text(text.replace("http://127.0.0.1:8787", "https://market.example"))
    with pytest.raises(ConfigUnusable, match="isolates nothing"):
        settings.load(file)


def record() -> Attempt:
    return Attempt(
        request=ScriptedMarket(keys.generate(), IDENTITY).request(spec("busy", env={"SECRET": "hunter2"})),
        request_frame="m-1",
        claim_at_ms=1,
        claim_signature=b"c" * 64,
        anchor=Anchor("boot", 1, 2, 3),
        start_limit_ms=60_000,
        meter_key=b"m" * 32,
    )


def test_an_attempt_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    first = record()
    full = replace(
        first,
        step=Step.ENDED,
        lease_token="lease",
        assigned=True,
        image_digest="sha256:" + "0" * 64,
        started_at_ms=17,
        conceded_ms=4,
        voucher=SignedVoucher(fields=b"v", signature=b"s"),
        accepted=Accepted(SignedVoucher(fields=b"a", signature=b"b"), b"d"),
        report_sequence=7,
        log_next_seq=9,
        stop=Stop(Reason.CANCELLED, 10, final=False, detail="why"),
        ending=Ending(Reason.CANCELLED, 20, final=False, exit_code=143, detail=None),
        restoring_at_ms=5,
        restored_at_ms=6,
    )
    journal = Journal(path)
    for each in (first, full):
        journal.save(each)
        assert journal.find(each.key) == each
        assert read_only(path).attempts == (each,)
    journal.close()
    again = Journal(path)
    assert again.attempts() == [full]
    again.forget(full.key)
    assert again.attempts() == []
    again.close()


def test_reports_wait_in_order_until_they_are_taken(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite3")
    attempt = record()
    reports = [
        StateReport(allocation_id="alloc_1", attempt=1, lease_token="lease", sequence=n, state=state)
        for n, state in enumerate((AttemptState.PULLING, AttemptState.READY, AttemptState.EXITED), 1)
    ]
    for report in reports:
        journal.save_with_report(attempt, report)
    assert journal.reports(attempt.key) == reports
    journal.drop_report(attempt.key, 2)
    assert journal.reports(attempt.key) == [reports[0], reports[2]]
    journal.close()


def test_a_renters_secrets_are_not_in_the_journal(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    journal = Journal(path)
    journal.save(record())
    journal.close()
    for file in tmp_path.iterdir():
        assert b"hunter2" not in file.read_bytes()
    assert path.stat().st_mode & 0o077 == 0


def test_a_journal_of_another_version_is_refused(tmp_path: Path) -> None:
    import sqlite3

    path = tmp_path / "journal.sqlite3"
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(JournalUnusable, match="version 99"):
        Journal(path)


def test_a_look_at_a_journal_keeps_no_daemon_from_starting(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    Journal(path).close()
    with (tmp_path / "journal.sqlite3.lock").open() as look:
        fcntl.flock(look, fcntl.LOCK_SH)  # as `reaver-node status` does, and stands still before it is over
        over = threading.Timer(0.2, fcntl.flock, (look, fcntl.LOCK_UN))
        over.start()
        journal = Journal(path)
        over.join()
    assert read_only(path).in_use
    with pytest.raises(JournalUnusable, match="in use"):
        Journal(path)
    journal.close()
    assert not read_only(path).in_use


def test_a_journal_that_is_being_made_holds_nothing_yet(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite3"
    path.touch()
    with (tmp_path / "journal.sqlite3.lock").open("w") as daemon:
        fcntl.flock(daemon, fcntl.LOCK_EX)
        assert read_only(path) == JournalView((), in_use=True)


@pytest.mark.parametrize("version", [1, 2])
def test_a_journal_of_before_is_taken_over(tmp_path: Path, version: int) -> None:
    import sqlite3

    path = tmp_path / "journal.sqlite3"
    journal = Journal(path)
    first = record()
    journal.save(first)
    journal.close()
    newer = {
        2: ("restoring_at_ms", "restored_at_ms"),
        1: ("extended_ms", "extended_deposit", "paused_ms", "paused_at_ms"),
    }
    database = sqlite3.connect(path)
    for column in (name for since, names in newer.items() if since >= version for name in names):
        database.execute(f"ALTER TABLE attempt DROP COLUMN {column}")
    database.execute(f"PRAGMA user_version = {version}")
    database.close()
    journal = Journal(path)
    assert journal.attempts() == [first]
    journal.close()
