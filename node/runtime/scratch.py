"""A disk of a fixed size per attempt: an ext4 file, mounted by loop, wiped at the end.

The file is allocated in full beforehand, so a promise of space is kept, and a full disk is the container's own
ENOSPC, never the operator's. It has no journal: it doesn't outlive the attempt.
"""

import asyncio
import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from node.runtime.errors import CapabilityMissing, StartFailed

MIN_BYTES = 1 << 20  # below this ext4 has no room for its own tables
FULL_BYTES = 256 * 1024  # chosen: less than this left at the end means that writes failed (ext4 works in 4 KiB blocks)
_COMMAND_S = 60.0
_OUR_NAME = re.compile(r"reaver-[0-9a-f]{8}-.+\.img")


@dataclass(frozen=True, slots=True)
class Disk:
    """A mounted disk. Any user of the container may write to its folders, as to /tmp, but for `inputs`."""

    mount: Path

    @property
    def inputs(self) -> Path:
        return self.mount / "inputs"

    @property
    def outputs(self) -> Path:
        return self.mount / "outputs"

    @property
    def checkpoint(self) -> Path:
        return self.mount / "checkpoint"

    @property
    def scratch(self) -> Path:
        return self.mount / "scratch"

    @property
    def temporary(self) -> Path:
        return self.mount / "tmp"

    @property
    def notes(self) -> Path:
        return self.mount / "notes"


class Disks:
    """All disks of one deployment, as files in one folder that nobody else uses. Blocking work runs in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()

    async def probe(self) -> None:
        """Raises CapabilityMissing, with the reason, where disks can't be mounted."""
        if os.geteuid() != 0:
            raise CapabilityMissing("mounting a disk needs root")
        for program in ("mkfs.ext4", "mount", "umount"):
            if shutil.which(program) is None:
                raise CapabilityMissing(f"there is no {program} on this machine")
        name = f"probe-{os.getpid()}-{time.monotonic_ns()}"
        try:
            await self.create(name, 4 * MIN_BYTES)
        except StartFailed as failed:
            raise CapabilityMissing(str(failed)) from failed
        finally:
            await self.remove(name)

    def find(self, name: str) -> Disk | None:
        """The mounted disk of an attempt."""
        mount = self._folder / name
        return Disk(mount) if mount.is_mount() else None

    async def create(self, name: str, size: int) -> Disk:
        """Allocate, format, mount; one that exists is mounted again. Raises StartFailed: the node's side."""
        disk = Disk(self._folder / name)
        image = self._image(name)
        if disk.mount.is_mount():
            return disk
        try:
            if not image.exists():
                await self._make_image(image, max(size, MIN_BYTES))
            disk.mount.mkdir(mode=0o700, parents=True, exist_ok=True)
            await _run("mount", "-o", "loop,nosuid,nodev,noatime", str(image), str(disk.mount))
            disk.inputs.mkdir(mode=0o755, exist_ok=True)
            for part in (disk.outputs, disk.scratch, disk.temporary, disk.notes, disk.checkpoint):
                part.mkdir(exist_ok=True)
                part.chmod(0o1777)
        except OSError as error:
            raise StartFailed(f"the disk of {size} bytes could not be made: {error.strerror or error}") from error
        return disk

    async def remove(self, name: str) -> None:
        """Unmount and delete. Nothing there is success. Raises StartFailed while something still uses it."""
        disk = Disk(self._folder / name)
        if disk.mount.is_mount():
            await _run("umount", str(disk.mount))
        if disk.mount.exists():
            disk.mount.rmdir()
        await asyncio.to_thread(self._image(name).unlink, missing_ok=True)
        self._mark(name).unlink(missing_ok=True)

    def names(self, older_than_s: float) -> tuple[str, ...]:
        """Disks whose file was made at least so long ago."""
        limit = time.time() - older_than_s
        return tuple(
            image.stem
            for image in sorted(self._folder.glob("reaver-*.img"))
            if _OUR_NAME.fullmatch(image.name) and image.stat().st_ctime <= limit
        )

    def mark_full(self, name: str) -> None:
        """Remember, also over a restart, that the container was killed for its disk limit."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._mark(name).touch()

    def is_full(self, name: str) -> bool:
        """Whether the attempt hit its limit: killed for it, or no room left now."""
        if self._mark(name).exists():
            return True
        disk = self.find(name)
        if disk is None:
            return False
        room = os.statvfs(disk.mount)
        return room.f_bavail * room.f_frsize < FULL_BYTES or room.f_favail == 0

    def free_bytes(self) -> int:
        """Room for new disks."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        room = os.statvfs(self._folder)
        return room.f_bavail * room.f_frsize

    def leave(self) -> None:
        """Delete the folder, where no disk is left in it."""
        with contextlib.suppress(OSError):
            self._folder.rmdir()

    def _image(self, name: str) -> Path:
        return self._folder / f"{name}.img"

    def _mark(self, name: str) -> Path:
        return self._folder / f"{name}.full"

    async def _make_image(self, image: Path, size: int) -> None:
        """Under another name first: a file that carries the final name is whole."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        part = image.with_suffix(".part")
        try:
            await asyncio.to_thread(_allocate, part, size)
            await _run(
                "mkfs.ext4",
                "-q",
                "-F",
                "-m",
                "0",
                "-O",
                "^has_journal",
                "-E",
                "lazy_itable_init=1,nodiscard",
                str(part),
            )
            part.rename(image)
        finally:
            part.unlink(missing_ok=True)


def _allocate(path: Path, size: int) -> None:
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, size)
    path.chmod(0o600)


async def _run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(_COMMAND_S):
            output, _ = await process.communicate()
    except TimeoutError as hung:
        process.kill()
        await process.wait()
        raise StartFailed(f"{command[0]} did not end within {_COMMAND_S:.0f} s") from hung
    if process.returncode != 0:
        raise StartFailed(f"{command[0]}: {output.decode(errors='replace').strip()}")
