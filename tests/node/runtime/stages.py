"""What a conformance test asks of any runtime: named behaviours, each played by the means the runtime has."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from node.runtime.port import AttemptKey, ContainerSpec, Image, Limits, Network, Runtime

MIB = 1 << 20
LIMITS = Limits(milli_cpus=500, memory_bytes=48 * MIB, disk_bytes=8 * MIB, pids=64)


class Behaviour(StrEnum):
    """ENDS: exit 0 at once. FAILS: exit 7. RUNS: until TERM, then 143. STUBBORN: ignores TERM.
    SPEAKS: two lines on stdout, one on stderr, then a piece without newline, then ends. BURSTS: 2,000 numbered lines.
    WIDE: one line of 40,000 bytes. CHATS: a first line, then runs on. ABSENT: a command that isn't there.
    WRITES: 'result' into /outputs/result.txt. READS: its input into /outputs. REPORTS: progress 42, then until TERM.
    COUNTS: one more than the number in its checkpoint.
    HOGS: more memory than allowed. FILLS: more disk than allowed.
    """

    ENDS = "ends"
    FAILS = "fails"
    RUNS = "runs"
    STUBBORN = "stubborn"
    SPEAKS = "speaks"
    BURSTS = "bursts"
    WIDE = "wide"
    CHATS = "chats"
    ABSENT = "absent"
    WRITES = "writes"
    READS = "reads"
    REPORTS = "reports"
    COUNTS = "counts"
    HOGS = "hogs"
    FILLS = "fills"


@dataclass(slots=True)
class Stage:
    """A runtime under test and the way to play behaviours on it.

    again: a second runtime on the same machine, as after the node's restart; with another deployment's name,
    a stranger. enforces: it holds memory and disk limits.
    """

    runtime: Runtime
    again: Callable[[str | None], Runtime]
    play: Callable[[Behaviour], tuple[str, tuple[str, ...] | None]]
    enforces: bool
    attempts: int = 0

    async def spec(self, behaviour: Behaviour, *, key: AttemptKey | None = None) -> ContainerSpec:
        """A specification that nobody used before, its image prepared."""
        reference, command = self.play(behaviour)
        image: Image = await self.runtime.prepare(reference, max_bytes=100 * MIB)
        if key is None:
            self.attempts += 1
            key = AttemptKey("alloc_conformance", self.attempts)
        return ContainerSpec(key, image, LIMITS, command=command, network=Network.NONE)


def other(spec: ContainerSpec) -> ContainerSpec:
    """The same attempt from another specification."""
    return replace(spec, env=(*spec.env, ("OTHER", "1")))
