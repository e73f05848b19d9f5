"""The cells of `jobs top` and `jobs metrics` that are there only where a node measures them."""

from marketplace.cli.reaver.commands.views import gpu_cells
from marketplace.client.account_models import UsageSample

SAMPLE = {
    "at": "2026-01-01T00:00:00Z",
    "attempt": 1,
    "cpu_ms": 1,
    "memory_bytes": 1,
    "received_bytes": 0,
    "sent_bytes": 0,
}


def cells(gpu):
    return gpu_cells(UsageSample.model_validate({**SAMPLE, "gpu": gpu}))


def test_what_is_not_measured_is_not_shown_as_nothing():
    assert cells(None) == (None, None)
    assert cells({"percent": 0, "memory_bytes": None}) == ("0", None)
    assert cells({"percent": 37, "memory_bytes": 9_650_000_000}) == ("37", "9650.0")
