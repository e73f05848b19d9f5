"""Prometheus metrics of this process, in a registry of their own: two markets in one test share nothing."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """What is counted. Others add their own by `Counter(…, registry=metrics.registry)`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "reaver_http_requests",
            "Requests answered, by declared route and status.",
            ("route", "status"),
            registry=self.registry,
        )
        self.latency = Histogram(
            "reaver_http_request_seconds",
            "From the request's headers to the answer's end; streams are not in it.",
            ("route",),
            buckets=_LATENCY_BUCKETS_S,
            registry=self.registry,
        )
        self.streams = Gauge("reaver_http_streams", "Open event streams.", registry=self.registry)
        self.faults = Counter("reaver_faults", "Errors answered 500, by route.", ("route",), registry=self.registry)
        self.rate_store_failures = Counter(
            "reaver_rate_store_failures",
            "Flushes of rate counters that failed; requests passed.",
            registry=self.registry,
        )
        self.logins = Counter(
            "reaver_logins", "Logins and refreshes, by outcome.", ("outcome",), registry=self.registry
        )
        self.webhook_requests = Counter(
            "reaver_webhook_requests",
            "Requests to webhooks, by outcome: delivered, or why not.",
            ("outcome",),
            registry=self.registry,
        )
        self.bucket_deliveries = Counter(
            "reaver_bucket_deliveries",
            "Deliveries into renters' buckets that ended, by outcome: delivered or failed.",
            ("outcome",),
            registry=self.registry,
        )

    def exposition(self) -> tuple[bytes, str]:
        """The page for a scraper, and its content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST
