"""Names and labels of everything of ours: how it is made once, found again, and told from what isn't ours."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from node.runtime.port import AttemptKey, ContainerSpec

DEPLOYMENT = "reaver.deployment"
ALLOCATION = "reaver.allocation"
ATTEMPT = "reaver.attempt"
SPEC = "reaver.spec"
ROOT_LIMIT = "reaver.root_limit"


@dataclass(frozen=True, slots=True)
class Namespace:
    """All names of one deployment on one machine. deployment: such as the node's public key."""

    deployment: str

    def __post_init__(self) -> None:
        if not 1 <= len(self.deployment) <= 128:
            raise ValueError("a deployment's name has 1..128 characters")

    @property
    def tag(self) -> str:
        """Eight hex digits that stand for the deployment where a name must be short."""
        return _short(self.deployment, 8)

    @property
    def interfaces(self) -> str:
        """What the names of this deployment's bridges start with; the firewall's rules match on it."""
        return f"rv{self.tag[:5]}"

    def name(self, key: AttemptKey) -> str:
        """Container, network and scratch folder of an attempt."""
        return f"reaver-{self.tag}-{key.allocation}-{key.attempt}"

    def interface(self, key: AttemptKey) -> str:
        """The attempt's bridge; the kernel allows 15 characters."""
        return self.interfaces + _short(f"{key.allocation}/{key.attempt}", 8)

    def labels(self, key: AttemptKey) -> dict[str, str]:
        return {DEPLOYMENT: self.deployment, ALLOCATION: key.allocation, ATTEMPT: str(key.attempt)}

    def owned_key(self, labels: Mapping[str, str] | None) -> AttemptKey | None:
        """Whose a labelled thing is; None unless it carries this deployment's labels, whole and valid."""
        if not labels or labels.get(DEPLOYMENT) != self.deployment:
            return None
        try:
            return AttemptKey(labels[ALLOCATION], int(labels[ATTEMPT]))
        except (KeyError, ValueError):
            return None


def fingerprint(spec: ContainerSpec) -> str:
    """Tells two specifications of one attempt apart; kept as a label.

    Whoever may read labels may read the environment too, so the digest gives nothing away.
    """
    limits = spec.limits
    parts: list[object] = [
        [spec.key.allocation, spec.key.attempt, spec.image.pinned, spec.entrypoint, spec.command],
        [spec.env, spec.workdir, spec.network],
        [limits.milli_cpus, limits.memory_bytes, limits.disk_bytes, limits.pids],
        [spec.shm_bytes, spec.ulimits],
    ]
    if spec.input_name is not None:  # what was started without keeps its label
        parts.append([spec.input_name])
    if spec.checkpoint:
        parts.append(["checkpoint"])
    return _short(json.dumps(parts), 16)


def _short(text: str, digits: int) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:digits]
