"""What a job's spec asks of an engine."""

from marketplace.domain.catalogue import find_class
from marketplace.protocol.terms import JobSpec
from node.hardware import GB, MB
from node.runtime.port import AttemptKey, ContainerSpec, Image, Limits, Network


def container_limits(spec: JobSpec) -> Limits:
    """What the class gives to that many slots, and the disk that was asked for."""
    entry = find_class(spec.class_id)
    return Limits(
        milli_cpus=entry.vcpu * 1000 * spec.gpu_count,
        memory_bytes=entry.ram_gb * GB * spec.gpu_count,
        disk_bytes=spec.disk_gb * GB,
    )


def container_of(spec: JobSpec, key: AttemptKey, image: Image, limits: Limits, input_name: str | None) -> ContainerSpec:
    """The container contract (api.md section 5.2) as the engine takes it: one for a market's work and for a trial."""
    return ContainerSpec(
        key=key,
        image=image,
        limits=limits,
        entrypoint=spec.entrypoint,
        command=spec.command,
        env=tuple(sorted({**spec.env, **(spec.secrets or {})}.items())),
        workdir=spec.workdir,
        network=Network(spec.network),
        shm_bytes=None if spec.shm_mb is None else spec.shm_mb * MB,
        ulimits=tuple(sorted((spec.ulimits or {}).items())),
        input_name=input_name,
        checkpoint=spec.checkpoint_minutes is not None,
    )
