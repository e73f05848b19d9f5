"""What a job left: listed, and fetched into a folder, out of which no path leads, whatever a node says."""

import hashlib
from pathlib import Path, PurePosixPath

from marketplace.client.account_models import Output, OutputList
from marketplace.client.arriving import arriving
from marketplace.client.calls import Calls, page, segment
from marketplace.client.errors import MalformedAnswer

_PAGE = 100


class OutputCalls:
    """Outputs of one account's jobs."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def list_outputs(self, job_id: str, *, limit: int | None = None, offset: int | None = None) -> OutputList:
        """Files that a job left."""
        at = f"/v1/jobs/{segment(job_id)}/outputs"
        return (await self._calls.get(at, page(limit, offset))).read(OutputList)

    async def fetch(self, job_id: str, folder: Path) -> tuple[Output, ...]:
        """Every file that a job left, into `folder`, which should be empty: each appears whole and checked.

        Raises MalformedAnswer for a path that leads out of the folder, and for other bytes than were promised.
        """
        fetched: list[Output] = []
        while True:
            found = await self.list_outputs(job_id, limit=_PAGE, offset=len(fetched))
            for output in found.outputs:
                await self._fetch(job_id, output, folder.joinpath(*safe_parts(output.path)))
                fetched.append(output)
            if not found.has_more or not found.outputs:
                return tuple(fetched)

    async def _fetch(self, job_id: str, output: Output, to: Path) -> None:
        to.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        with arriving(to) as stream:
            at = f"/v1/jobs/{segment(job_id)}/download"
            async for chunk in self._calls.read_bytes(at, {"path": output.path}):
                digest.update(chunk)
                stream.write(chunk)
            if digest.hexdigest() != output.sha256:
                raise MalformedAnswer(f"{output.path}: the bytes are not those that the job left; it was not written")


def safe_parts(path: str) -> tuple[str, ...]:
    """The parts of a relative path that stays below where it begins. Raises MalformedAnswer for any other."""
    parts = PurePosixPath(path).parts
    wrong = not parts or path.startswith("/") or ".." in path.split("/") or "\\" in path or not path.isprintable()
    if wrong:
        raise MalformedAnswer(f"{path!r} is no path of an output; nothing of it was written")
    return parts
