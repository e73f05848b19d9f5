"""A request as a run on this machine: the spec that a market would send a node, and what only a market could give.

A field that only a market gives effect to is refused by name: a run here must not look as if it had been held to it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from marketplace.client.errors import NotHere
from marketplace.client.requests import JobRequest
from marketplace.domain.catalogue import ANY
from marketplace.protocol.inputs import read_input
from marketplace.protocol.local_runs import LocalOrder

_MARKET_ONLY: Final[dict[str, Callable[[JobRequest], object]]] = {
    "model": lambda r: r.model,
    "region": lambda r: r.region,
    "regions": lambda r: r.regions,
    "priority": lambda r: r.priority,
    "max_price_per_hour": lambda r: r.max_price_per_hour,
    "max_price_per_gpu_second": lambda r: r.max_price_per_gpu_second,
    "queue_seconds": lambda r: r.queue_seconds is not None,
    "retry": lambda r: r.retry,
    "nodes": lambda r: r.nodes,
    "exclude_nodes": lambda r: r.exclude_nodes,
    "registry_auth_id": lambda r: r.registry_auth_id,
    "labels": lambda r: r.labels,
    "consumer_id": lambda r: r.consumer_id,
    "webhook": lambda r: r.webhook,
    "checkpoint": lambda r: r.checkpoint_minutes,
    "auto_extend": lambda r: r.auto_extend_s,
    "output_config": lambda r: r.output_format or r.destination or r.credential_id,
    "requirements.min_cuda": lambda r: r.requirements.min_cuda,
    "requirements.min_reputation": lambda r: r.requirements.min_reputation,
}
"""Fields of a job file, and whether a request has them."""


def local_order(request: JobRequest, *, input_file: Path | None = None, outputs: Path | None = None) -> LocalOrder:
    """What `reaver-node try` runs.

    input_file: in place of the request's input. outputs: folder for what the work leaves.
    Raises NotHere naming every field that only a market gives effect to, UnknownName, ValueError as `JobRequest.spec`.
    """
    beyond = tuple(name for name, given in _MARKET_ONLY.items() if given(request))
    if beyond:
        raise NotHere(f"only a market gives effect to {', '.join(beyond)}; leave it out for a run on this machine")
    given = read_input(request.input)
    if given is not None and given.job_input.kind == "file":
        raise NotHere("the input is a file that lies with the market; name one of this machine with --upload")
    spec = request.spec()
    if spec.class_id == ANY:
        # A node runs it as its own class; here that is the first one that will do.
        spec = spec.model_copy(update={"class_id": (spec.tiers or ())[0][0], "tiers": None})
    return LocalOrder(
        spec=spec.model_copy(update={"secrets": dict(request.secrets) or None}),
        input_text=None if given is None or given.content is None else given.content.decode(),
        input_file=None if input_file is None else str(input_file.absolute()),
        outputs=None if outputs is None else str(outputs.absolute()),
    )
