"""How jobs and nodes are shown to a person."""

from typing import TYPE_CHECKING

from marketplace.cli.reaver.output import Output

if TYPE_CHECKING:
    from marketplace.client.account_models import UsageSample
    from marketplace.client.models import Because, Job, JobRow, Node, Settlement


def show_job(output: Output, job: "Job") -> None:
    """One job with its attempts and its money."""
    output.fields(
        f"Job {job.id}",
        [
            ("name", job.name),
            ("status", job.status),
            ("reason", job.reason_text or job.reason),
            ("who pays", _who_pays(job)),
            ("error", None if job.error is None else job.error.message),
            ("exit code", None if job.exit_code is None else str(job.exit_code)),
            ("image", job.image),
            ("digest", job.image_digest),
            ("class", job.gpu),
            ("region", job.region if isinstance(job.region, str) else ", ".join(job.region or ()) or "any"),
            ("node", job.node_id),
            ("created", job.created_at),
            ("started", job.started_at),
            ("ended", job.completed_at),
            ("cost", None if job.cost is None else f"{job.cost} {job.currency}"),
            ("delivered to", _delivery(job)),
            ("checkpoint", _checkpoint(job)),
            ("waits for", _waits_for(job)),
        ],
    )
    if len(job.attempts) > 1:
        output.line()
        output.table(
            ("attempt", "node", "ended because", "billed ms", "paid"),
            [(str(a.number), a.node_id, a.end_reason, str(a.billed_ms), a.paid) for a in job.attempts],
            "no attempt yet",
        )
    _show_settlement(output, job)


def _who_pays(job: "Job") -> str | None:
    """By the reason of the end; what earlier attempts were paid stands in their table."""
    if job.who_pays is None:
        return None
    of = " (of the last attempt)" if len(job.attempts) > 1 else ""
    return f"renter: {job.who_pays.renter}; node: {job.who_pays.node}{of}"


def _show_settlement(output: Output, job: "Job") -> None:
    settled = job.settlement
    if settled is None:
        return
    fees = settled.fees
    output.line()
    output.fields(
        "Money",
        [
            ("escrow", settled.escrow),
            ("state", settled.state),
            ("deposit", _money(settled.deposit, job.currency)),
            ("price per hour", _money(settled.price_per_hour, job.currency)),
            ("billed", f"{settled.billed_ms} ms"),
            ("paid", _money(settled.paid, job.currency)),
            ("  operator", _money(settled.operator_received, job.currency)),
            ("  market", None if fees is None else _money(fees.market, job.currency)),
            ("  protocol", None if fees is None else _money(fees.protocol, job.currency)),
            ("  stakers", None if fees is None else _money(fees.stakers, job.currency)),
            ("came back", _money(settled.refunded, job.currency)),
            ("compensation", _compensation(settled)),
            ("rent left", None if settled.rent_left_lamports is None else f"{settled.rent_left_lamports} lamports"),
            ("settled", settled.settled_at),
        ],
    )
    for transaction in settled.transactions:
        signature = transaction if isinstance(transaction, str) else transaction.get("signature")
        purpose = None if isinstance(transaction, str) else transaction.get("kind") or transaction.get("purpose")
        output.line(f"transaction     {signature}{f' ({purpose})' if purpose else ''}")


def show_jobs(
    output: Output,
    jobs: "tuple[JobRow, ...]",
    empty: str = "no jobs yet; `reaver run --help` shows how to start one",
) -> None:
    """A list of jobs, newest first."""
    output.table(
        ("job", "status", "reason", "image", "node", "cost", "created"),
        [(j.id, j.status, j.reason, j.image, j.node_id, j.cost, j.created_at) for j in jobs],
        empty,
    )


def show_nodes(output: Output, nodes: "tuple[Node, ...]") -> None:
    """A list of machines on offer."""
    output.table(
        ("node", "class", "region", "status", "free", "floor an hour", "reputation", "uptime"),
        [
            (
                n.id,
                n.class_,
                n.region,
                n.status,
                None if n.free_gpus is None else str(n.free_gpus),
                n.price_floor_per_hour,
                None if n.reputation is None else str(n.reputation),
                None if n.uptime is None else str(n.uptime),
            )
            for n in nodes
        ],
        "no node matches now; `reaver nodes list --status active` shows the busy ones too",
    )


def show_node(output: Output, node: "Node") -> None:
    """One machine."""
    output.fields(
        f"Node {node.id}",
        [
            ("name", node.name),
            ("status", node.status),
            ("class", node.class_),
            ("region", node.region),
            ("country", node.country),
            ("free slots", None if node.free_gpus is None else f"{node.free_gpus} of {node.gpu_count}"),
            ("floor an hour", node.price_floor_per_hour),
            ("reputation", None if node.reputation is None else str(node.reputation)),
            ("uptime", None if node.uptime is None else str(node.uptime)),
            ("operator", node.operator),
            ("bond", node.bond),
            ("bond missing", node.bond_missing if node.bond_missing and node.bond_missing.strip("0.") else None),
            ("stake", node.stake),
            ("last seen", node.last_seen_at),
        ],
    )


def _compensation(settled: "Settlement") -> str | None:
    found = settled.compensation
    return None if found is None or not found.amount.strip("0.") else f"{found.amount} {found.currency}"


def _money(amount: str | None, currency: str) -> str | None:
    return None if amount is None else f"{amount} {currency}"


def _delivery(job: "Job") -> str | None:
    """The bucket, and how far its files are."""
    if job.delivery is None:
        return None
    place, found = (job.output_config or {}).get("destination", "a bucket"), job.delivery
    return f"{place}: {found.state}, {found.files} files, {found.bytes} bytes" + (
        "" if found.error is None else f"; {found.error}"
    )


def _checkpoint(job: "Job") -> str | None:
    if job.checkpoint is None:
        return None
    found = job.checkpoint
    if found.saved_at is None:
        return f"every {found.minutes} min; none yet"
    return f"every {found.minutes} min; {found.bytes} bytes at {found.saved_at}, of attempt {found.attempt}"


def _waits_for(job: "Job") -> str | None:
    if job.queue is None or job.status != "queued":
        return None
    return "; ".join(_reason(because) for because in job.queue.because) or "its turn"


def _reason(because: "Because") -> str:
    """How many nodes it keeps out; what is the wallet's own to change has no nodes beside it."""
    if because.constraint == "allowance":
        return f"allowance {because.best}: reaver allow grant"
    return f"{because.constraint} ({because.nodes_excluded} nodes)"


def thousandths(value: int) -> str:
    """Thousandths of something, as decimal text of it."""
    return f"{value // 1000}.{value % 1000:03d}"


def gpu_cells(sample: "UsageSample") -> tuple[str | None, str | None]:
    """How busy the GPUs are, and their memory in MB; nothing where the node doesn't measure it."""
    gpu = sample.gpu
    if gpu is None:
        return None, None
    return str(gpu.percent), None if gpu.memory_bytes is None else megabytes(gpu.memory_bytes)


def megabytes(value: int) -> str:
    """Bytes as megabytes with one digit."""
    return f"{value // 1_000_000}.{value % 1_000_000 // 100_000}"
