"""The runtime that the configuration names."""

from marketplace.protocol.control import Capabilities as Announced
from node.errors import ConfigUnusable
from node.hardware import GB
from node.runtime.port import Capabilities, DiskLimit, Network, Runtime
from node.settings import RuntimeKind, Settings


def build_runtime(settings: Settings) -> Runtime:
    """The runtime; its engine is not asked anything yet."""
    runtime = settings.runtime
    if runtime.kind is RuntimeKind.PROCESS:
        from node.runtime.process import ProcessImage, ProcessRuntime  # noqa: PLC0415 - only where it is wanted

        images = {name: ProcessImage(image.entrypoint, image.command) for name, image in runtime.images.items()}
        return ProcessRuntime(runtime.deployment, settings.data / "processes", images)
    from node.runtime.docker import DockerRuntime, DockerSettings  # noqa: PLC0415 - its client takes 0.3 s to import

    return DockerRuntime(
        DockerSettings(
            deployment=runtime.deployment,
            folder=settings.data / "disks",
            host=runtime.engine or None,
            private_registries=frozenset(runtime.private_registries),
        )
    )


def check_isolation(settings: Settings, found: Capabilities) -> None:
    """Strangers' work runs in a sandbox or not at all. Raises ConfigUnusable."""
    if not found.isolated and not settings.local:
        notes = " ".join(found.notes)
        raise ConfigUnusable(f"{found.engine} can't isolate strangers' work on this machine: {notes}")


def most_disk_gb(settings: Settings, found: Capabilities) -> int:
    """What one job may ask for: the operator's limit, or the machine's."""
    return min(settings.runtime.max_disk_gb, found.max_disk_bytes // GB)


def announced(settings: Settings, found: Capabilities) -> Announced:
    """The same for the market's scheduler."""
    return Announced(
        runtime=settings.runtime.kind.value,
        egress=Network.EGRESS in found.networks,
        disk_limit=found.scratch_limit is DiskLimit.ENFORCED,
        max_disk_gb=most_disk_gb(settings, found),
        pause=True,
        exec=settings.runtime.kind is RuntimeKind.DOCKER,
    )
