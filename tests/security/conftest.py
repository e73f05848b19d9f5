"""What the tests here share with those of the API: a chain, a market on it, wallets and nodes that are scripted."""

from tests.api.conftest import chain, live_call, live_market, renter

__all__ = ["chain", "live_call", "live_market", "renter"]
