"""`reaver --help` loads nothing heavy. Start-up cost: stack.md section 14; counts are asserted, not times."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from marketplace.cli.reaver import session
from marketplace.cli.reaver.exits import Exit
from marketplace.cli.reaver.output import Output
from tests.client.fake_market import FakeMarket

HEAVY = (
    "aiohttp",
    "anchorpy",
    "solana",
    "solders",
    "nacl",
    "pydantic",
    "rich",
    "sqlalchemy",
    "sqlmodel",
    "jwt",
    "base58",
)
CODE = """
import sys
from marketplace.cli.reaver import main
sys.argv = ["reaver", *sys.argv[1:]]
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended.code
print("\\n".join(sorted(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize(
    "arguments",
    [("--help",), ("run", "--help"), ("jobs", "--help"), ("allow", "grant", "--help"), ("receipt", "verify", "--help")],
    ids=" ".join,
)
def test_help_loads_nothing_heavy(arguments: tuple[str, ...]) -> None:
    # typer itself converts a subcommand's arguments with pydantic.
    heavy = set(HEAVY) if arguments == ("--help",) else set(HEAVY) - {"pydantic"}
    done = subprocess.run([sys.executable, "-c", CODE, *arguments], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: reaver")
    loaded = {name.split(".")[0] for name in done.stderr.split()}
    assert loaded.isdisjoint(heavy)
    ours = {name for name in done.stderr.split() if name.startswith("marketplace.")}
    assert all(name.startswith("marketplace.cli") for name in ours)


def test_an_output_that_takes_nothing_more_is_one_line_of_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", CODE.replace("assert", "raise; assert"), "--help"],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (Exit.INTERNAL, "error: No space left on device\n")


def test_what_this_machine_refuses_is_no_fault_of_reaver(capsys: pytest.CaptureFixture[str]) -> None:
    """A hint to give the command again would have a job that is submitted already paid twice."""

    async def ends_with(error: Exception) -> None:
        raise error

    with pytest.raises(BrokenPipeError):
        session.run(Output(as_json=False), lambda: ends_with(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    with pytest.raises(typer.Exit) as ended:
        session.run(Output(as_json=False), lambda: ends_with(OSError(errno.ENAMETOOLONG, "File name too long", "x")))
    assert ended.value.exit_code == Exit.INTERNAL
    assert capsys.readouterr().err == "error: x: File name too long\n"


def test_every_command_teaches_by_help() -> None:
    for arguments in (
        ["login"],
        ["quote"],
        ["run"],
        ["jobs"],
        ["nodes"],
        ["vault", "deposit"],
        ["allow", "grant"],
        ["stake"],
        ["crank"],
        ["init"],
        ["doctor"],
        ["history"],
        ["costs"],
        ["files", "upload"],
        ["webhooks", "add"],
        ["keys", "create"],
        ["groups"],
        ["models", "get"],
        ["jobs", "watch"],
        ["jobs", "download"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", CODE, *arguments, "--help"], capture_output=True, text=True, check=True
        )
        assert f"\n  reaver {arguments[0]}" in done.stdout.replace("    reaver", "  reaver"), arguments


def test_ctrl_c_while_following_without_a_terminal_detaches(
    market: FakeMarket, environment: dict[str, str], tmp_path: Path
) -> None:
    market.allowance = True
    market.log_never_ends = True
    log = tmp_path / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                "from marketplace.cli.reaver import main; main()",
                *("run", "--image", "alpine", "--gpu", "cpu-small", "--follow"),
            ],
            env=os.environ | environment | {"REAVER_API": market.base_url, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stream,
        )
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"one\n"
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == Exit.INTERRUPTED
        finally:
            process.kill()
            process.communicate()
    assert b"the job runs on" in log.read_bytes()
    assert [s.path for s in market.seen if s.path.endswith("/cancel")] == []
