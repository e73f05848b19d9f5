"""What every model's container keeps to: where its input is, where its result goes, how it says no.

Nothing heavy is imported before the number of threads is set, because numerical libraries read it once.
"""

import importlib
import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

EX_DATAERR: Final = 65
"""Exit code of an input that the model can't take; the number is sysexits.h's."""
MAX_DOCUMENT_BYTES: Final = 16 << 20
"""Chosen: of a text or a JSON document that is read whole into the 2 GB of the smallest class."""
_THREADS: Final = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_QUOTA_V2: Final = Path("/sys/fs/cgroup/cpu.max")
_QUOTA_V1: Final = (Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us"))


class Refused(Exception):
    """The input is nothing that this model takes; the message is for the renter."""


@dataclass(frozen=True, slots=True)
class Job:
    """One run. input: the file that was given. outputs: folder of what is delivered. progress: file of a number."""

    input: Path
    outputs: Path
    progress: Path | None
    _shown: list[int] = field(default_factory=list, repr=False)

    def document(self) -> Any:
        """The input as a value: JSON of a file whose name says so, else its text. Raises Refused."""
        text = self.text()
        if self.input.suffix.lower() != ".json":
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise Refused(f"{self.input.name} is not JSON: {error}") from error

    def text(self) -> str:
        """The input as text, which is UTF-8. Raises Refused."""
        size = self.input.stat().st_size
        if size > MAX_DOCUMENT_BYTES:
            raise Refused(f"{self.input.name} has {size} bytes; at most {MAX_DOCUMENT_BYTES} are read")
        try:
            return self.input.read_bytes().decode()
        except UnicodeDecodeError as error:
            raise Refused(f"{self.input.name} is not UTF-8 text (byte {error.start})") from error

    def say_progress(self, done: int, of: int) -> None:
        """Show how much is done, in whole per cent, and only what has changed."""
        percent = 100 * done // of
        if self.progress is not None and percent not in self._shown:
            self._shown.append(percent)
            self.progress.write_text(f"{percent}\n")

    def write_json(self, value: object) -> None:
        """Leave `result.json`."""
        (self.outputs / "result.json").write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")))

    def write_text(self, text: str) -> None:
        """Leave `result.txt`."""
        # what a text may hold and UTF-8 can't: half of a surrogate pair
        (self.outputs / "result.txt").write_bytes(text.encode(errors="replace"))

    def write_binary(self, data: bytes) -> None:
        """Leave `result.bin`."""
        (self.outputs / "result.bin").write_bytes(data)


def run(task: str) -> NoReturn:
    """Run `work(job)` of the module `task` on the job of this container, and end the process."""
    for name in _THREADS:
        os.environ.setdefault(name, str(processors()))
    try:
        importlib.import_module(task).work(job_of(os.environ))
    except Refused as refused:
        print(f"input refused: {refused}", file=sys.stderr, flush=True)  # noqa: T201 - the job's log
        sys.exit(EX_DATAERR)
    sys.exit(0)


def job_of(environment: os._Environ[str] | dict[str, str]) -> Job:
    """The job as the node tells of it (docs/runtime.md, "The container contract"). Raises Refused without an input."""
    given = environment.get("REAVER_INPUT")
    if not given or not Path(given).is_file():
        raise Refused("the job has no input")
    progress = environment.get("REAVER_PROGRESS")
    outputs = Path(environment.get("REAVER_OUTPUTS") or "/outputs")
    return Job(Path(given), outputs, Path(progress) if progress else None)


def processors(quota_v2: Path = _QUOTA_V2, quota_v1: tuple[Path, Path] = _QUOTA_V1) -> int:
    """How many processors this container may use at once, at least one: a thread more would only wait."""
    here = len(os.sched_getaffinity(0))
    try:
        if quota_v2.exists():
            quota, period = quota_v2.read_text().split()
        else:
            quota, period = (file.read_text().strip() for file in quota_v1)
        share = -1 if quota == "max" else int(quota) // int(period)
    except (OSError, ValueError):
        return here
    return here if share < 0 else max(1, min(here, share))
