"""Keeps containers off the operator's network: iptables rules for every bridge of one deployment.

The bridges' names share a prefix, so the rules are set once, before the first bridge exists, and a bridge is never
up without them. Two places: what is forwarded to private addresses, and everything that is meant for the host
itself, its public addresses included. Checked again before each start; without them nothing gets a network.
"""

import asyncio
import shutil
from dataclasses import dataclass

from node.runtime.errors import CapabilityMissing

_WAIT_S = "5"  # for the lock that other users of iptables hold
_COMMAND_S = 15.0

# Nothing of the public internet is in these. Source: IANA special-purpose address registries (RFC 6890 and later).
BLOCKED_V4 = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",  # link-local; the metadata address of every large cloud
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "224.0.0.0/4",
    "240.0.0.0/4",
)


@dataclass(frozen=True, slots=True)
class _Rule:
    program: str
    chain: str
    match: tuple[str, ...]


class Firewall:
    """The rules of one deployment. prefix: what its bridges' names start with. extra: more ranges to block."""

    def __init__(self, prefix: str, extra: tuple[str, ...] = ()) -> None:
        self._prefix = prefix
        self._chain = f"REAVER-{prefix}"
        self._blocked = (*BLOCKED_V4, *extra)
        self._lock = asyncio.Lock()

    async def ensure(self) -> None:
        """Set what is missing; cheap when all is there. Raises CapabilityMissing with the tool's own words."""
        async with self._lock:
            if not shutil.which("iptables"):
                raise CapabilityMissing("there is no iptables on this machine")
            if not await self._chain_is_whole():
                await self._fill_chain()
            hook = "DOCKER-USER" if await _succeeds("iptables", "-S", "DOCKER-USER") else "FORWARD"
            bridges = ("-i", f"{self._prefix}+")
            rules = [
                _Rule("iptables", hook, (*bridges, "-j", self._chain)),
                _Rule("iptables", "INPUT", (*bridges, "-j", "DROP")),
            ]
            # Our bridges have no IPv6. The rules stand for the day when somebody switches it on in the engine.
            if shutil.which("ip6tables") and await _succeeds("ip6tables", "-S", "INPUT"):
                rules += [_Rule("ip6tables", chain, (*bridges, "-j", "DROP")) for chain in ("FORWARD", "INPUT")]
            for rule in rules:
                if not await _succeeds(rule.program, "-C", rule.chain, *rule.match):
                    await _run(rule.program, "-I", rule.chain, "1", *rule.match)

    async def remove(self) -> None:
        """Take the rules away; for tests and for an operator who leaves. Nothing there is success."""
        bridges = ("-i", f"{self._prefix}+")
        if not shutil.which("iptables"):
            return  # none was ever set
        async with self._lock:
            for chain in ("DOCKER-USER", "FORWARD"):
                await _succeeds("iptables", "-D", chain, *bridges, "-j", self._chain)
            await _succeeds("iptables", "-D", "INPUT", *bridges, "-j", "DROP")
            await _succeeds("iptables", "-F", self._chain)
            await _succeeds("iptables", "-X", self._chain)
            if shutil.which("ip6tables"):
                for chain in ("FORWARD", "INPUT"):
                    await _succeeds("ip6tables", "-D", chain, *bridges, "-j", "DROP")

    async def _chain_is_whole(self) -> bool:
        code, text = await _execute("iptables", "-S", self._chain)
        dropped = {line.split()[3] for line in text.splitlines() if line.startswith(f"-A {self._chain} -d ")}
        return code == 0 and dropped >= set(self._blocked)

    async def _fill_chain(self) -> None:
        await _succeeds("iptables", "-N", self._chain)
        for blocked in self._blocked:
            if not await _succeeds("iptables", "-C", self._chain, "-d", blocked, "-j", "DROP"):
                await _run("iptables", "-A", self._chain, "-d", blocked, "-j", "DROP")


async def _run(program: str, *arguments: str) -> None:
    code, words = await _execute(program, *arguments)
    if code != 0:
        raise CapabilityMissing(f"{program} refuses: {words.strip().splitlines()[-1] if words.strip() else code}")


async def _succeeds(program: str, *arguments: str) -> bool:
    code, _ = await _execute(program, *arguments)
    return code == 0


async def _execute(program: str, *arguments: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        program,
        "-w",
        _WAIT_S,
        *arguments,
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
        raise CapabilityMissing(f"{program} did not end within {_COMMAND_S:.0f} s") from hung
    return process.returncode or 0, output.decode(errors="replace")
