"""First steps of a node: keys, a configuration, and whether this machine can run containers at all."""

import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from node import keys, settings
from node.engines import build_runtime
from node.errors import ConfigUnusable, MarketRefused, MarketUnavailable, NotTrusted
from node.market import MarketHttp
from node.runtime.errors import EngineError, EngineUnavailable, ImageUnavailable, PullFailed
from node.runtime.port import AttemptKey, Capabilities, ContainerSpec, Image, Limits, Network, Runtime

NODE_KEY: Final = "node.json"
OPERATOR_KEY: Final = "operator.json"
# Chosen: enough for any shell, little enough for any machine.
_CHECK_LIMITS: Final = Limits(milli_cpus=500, memory_bytes=64 << 20, disk_bytes=16 << 20, pids=32)
_CHECK_IMAGE_BYTES: Final = 1 << 30
_PRIVATE: Final = "a registry on a private address must stand in runtime.private_registries of the configuration"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. fix: what to do, empty when nothing is wrong."""

    subject: str
    text: str
    fix: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing has to be done."""
        return not self.fix


def create_keys(folder: Path) -> list[Finding]:
    """Node key and operator key, where they are missing; an existing key is never touched."""
    findings = []
    for name, subject in ((NODE_KEY, "node key"), (OPERATOR_KEY, "operator key")):
        path = folder / name
        try:
            keys.write(path, keys.generate())
            made = "created"
        except FileExistsError:
            made = "kept"
        try:
            findings.append(Finding(subject, f"{keys.load(path).address} ({made}, {path})"))
        except keys.KeyUnusable as error:
            findings.append(Finding(subject, str(error), fix=str(error)))
    return findings


def create_config(file: Path, text: str) -> Finding:
    """The configuration file, where there is none."""
    try:
        with file.open("x", encoding="utf-8") as out:
            out.write(text)
    except FileExistsError:
        return Finding("configuration", f"{file} (kept)")
    return Finding("configuration", f"{file} (created)")


async def pin_market(file: Path) -> Finding:
    """Write what the market says it is into the configuration, unless other pins are there."""
    config = settings.load(file)
    try:
        async with MarketHttp(config.market.url, keys.generate(), "node") as http:
            pins = await http.pins()
    except (MarketUnavailable, MarketRefused) as error:
        return Finding("market", str(error), fix="start the market or correct market.url; `register` tries again")
    except NotTrusted as error:
        return Finding("market", str(error), fix="correct market.url: this is no market that a node can work for")
    found = {"address": pins.address, "program_id": pins.program_id, "genesis_hash": pins.genesis_hash}
    pinned = {name: getattr(config.market, name) for name in found}
    if any(pinned.values()) and pinned != found:
        return Finding(
            "market",
            f"{config.market.url} is another market than the pinned one",
            fix="if you mean to change markets, empty address, program_id and genesis_hash in [market] first",
        )
    settings.update(file, {"market": found | {"decimals": pins.decimals}})
    return Finding("market", f"{pins.address} at {config.market.url}, pinned")


async def check_engine(config: settings.Settings, image: str) -> list[Finding]:
    """Run a container and say what the machine can and can't do."""
    try:
        runtime = build_runtime(config)
        try:
            found = await runtime.capabilities()
            findings = [_engine(config, found), *(Finding("note", note) for note in found.notes)]
            if config.runtime.kind is not settings.RuntimeKind.PROCESS:  # it has no images, only commands of its own
                findings.append(await _run(runtime, image))
            return findings
        finally:
            await runtime.close()
    except (EngineUnavailable, ConfigUnusable) as error:
        fix = "install and start Docker or Podman, or name its socket as runtime.engine"
        return [Finding("engine", str(error), fix=fix)]


def _engine(config: settings.Settings, found: Capabilities) -> Finding:
    networks = " and ".join(sorted(network.value for network in found.networks))
    text = f"{found.engine}; networks: {networks}"
    if found.isolated or config.local:
        return Finding("engine", text)
    return Finding("engine", text, fix="strangers' work can't be isolated on this machine; see the notes")


async def _run(runtime: Runtime, image: str) -> Finding:
    key = AttemptKey(f"check-{secrets.token_hex(4)}", 1)
    try:
        present = await runtime.prepare(image, max_bytes=_CHECK_IMAGE_BYTES)
        return await _run_once(runtime, key, present)
    except (ImageUnavailable, PullFailed) as error:
        fix = "name an image that this machine can pull (--check-image); " + _PRIVATE
        return Finding("container", str(error), fix=fix)
    except EngineError as error:
        return Finding("container", str(error), fix=f"the engine can't run a container here: {error}")


async def _run_once(runtime: Runtime, key: AttemptKey, image: Image) -> Finding:
    spec = ContainerSpec(
        key=key, image=image, limits=_CHECK_LIMITS, entrypoint=(), command=("true",), network=Network.NONE
    )
    try:
        await runtime.start(spec)
        outcome = await runtime.wait(key)
    finally:
        await runtime.remove(key)
    if outcome.exit_code != 0:
        text = f"{image.reference} ended with exit code {outcome.exit_code} {outcome.message}".strip()
        return Finding("container", text, fix="name an image that has `true` (such as busybox): --check-image")
    return Finding("container", f"ran `true` in {image.pinned}")
