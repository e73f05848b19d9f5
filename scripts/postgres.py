"""A private PostgreSQL for tests and benches: a cluster in a temporary folder, on a loopback port, gone afterwards.

The server refuses to run as root: there it runs as the user that Debian's package made. Nothing of a system's own
cluster is touched.
"""

import contextlib
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from scripts.processes import free_ports

_START_S: Final = 60
_VERSIONS: Final = Path("/usr/lib/postgresql")
"""Where Debian keeps the servers, by major version; their programs are not on the PATH."""
UNSAFE: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")
"""For tests, where nothing has to survive a power cut."""


def find_programs() -> Path | None:
    """Folder of `initdb` and `postgres`, None where no server is installed."""
    found = sorted(_VERSIONS.glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    elsewhere = shutil.which("initdb")
    return Path(elsewhere).resolve().parent if elsewhere else None


@contextlib.contextmanager
def running_cluster(*settings: str) -> Iterator[str]:
    """URL of a running server without a database's name, `postgresql://user:password@127.0.0.1:port`."""
    programs = find_programs()
    if programs is None:
        raise SystemExit("PostgreSQL's server is missing: scripts/setup postgres")
    as_user = _as_user()
    folder = Path(tempfile.mkdtemp(prefix="reaver-postgres-"))
    log = folder / "log"
    password = secrets.token_hex(16)
    try:
        (folder / "password").write_text(password)
        if as_user:
            subprocess.run(["chown", "-R", as_user[1].removeprefix("--reuid="), str(folder)], check=True)
        initdb = [
            *as_user, str(programs / "initdb"), "--pgdata", str(folder / "data"), "--username=reaver",
            "--pwfile", str(folder / "password"), "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync",
        ]  # fmt: skip
        subprocess.run(initdb, check=True, stdout=subprocess.DEVNULL, cwd="/", env=_environment())
        (port,) = free_ports(1, in_a_row=1)
        options = [
            "listen_addresses=127.0.0.1", f"port={port}", "unix_socket_directories=", "max_connections=200", *settings
        ]  # fmt: skip
        command = [*as_user, str(programs / "postgres"), "-D", str(folder / "data")]
        for option in options:
            command += ["-c", option]
        with log.open("wb") as output:
            server = subprocess.Popen(command, stdout=output, stderr=output, cwd="/", env=_environment())
        try:
            _wait(server, port, log)
            yield f"postgresql://reaver:{password}@127.0.0.1:{port}"
        finally:
            # SIGINT is PostgreSQL's fast shutdown: sessions are ended, not waited for
            server.send_signal(signal.SIGINT)
            server.wait(_START_S)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _as_user() -> list[str]:
    if os.geteuid() != 0:
        return []
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            found = pwd.getpwnam(name)
            return ["setpriv", f"--reuid={found.pw_uid}", f"--regid={found.pw_gid}", "--clear-groups"]
    raise SystemExit("PostgreSQL doesn't run as root, and there is no user postgres or nobody")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "LC_ALL": "C.UTF-8"}


def _wait(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until the server says that it is ready: a port that answers may still refuse."""
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if b"ready to accept connections" in log.read_bytes():
            return
        if server.poll() is not None:
            break
        time.sleep(0.05)
    raise SystemExit(f"PostgreSQL did not start on port {port}: {log.read_text(errors='replace')[-2000:]}")
