"""The HTTP methods: each takes its parameters and returns the `result`. They live in `subjects/`.

Shapes and errors are those of Agave 3.1.8, compared in tests/conformance; docs/localnet.md lists what differs.
"""

from typing import Any

from marketplace.localnet.chain import Chain
from marketplace.localnet.rpc.envelope import METHOD_NOT_FOUND, RpcError
from marketplace.localnet.rpc.params import Params
from marketplace.localnet.rpc.reading import Method
from marketplace.localnet.rpc.subjects.blocks import BlockMethods
from marketplace.localnet.rpc.subjects.cluster import ClusterMethods, Endpoints
from marketplace.localnet.rpc.subjects.history import HistoryMethods
from marketplace.localnet.rpc.subjects.holdings import AccountMethods
from marketplace.localnet.rpc.subjects.own import OwnMethods
from marketplace.localnet.rpc.subjects.sending import SendingMethods


class Methods:
    """All methods over one chain."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._cluster = ClusterMethods(chain)
        subjects = (
            self._cluster,
            BlockMethods(chain),
            AccountMethods(chain),
            SendingMethods(chain),
            HistoryMethods(chain),
            OwnMethods(chain),
        )
        self._table: dict[str, Method] = {name: method for each in subjects for name, method in each.table().items()}

    @property
    def names(self) -> frozenset[str]:
        return frozenset(self._table)

    def listen_at(self, endpoints: Endpoints) -> None:
        """Tell getClusterNodes where this node is asked."""
        self._cluster.endpoints = endpoints

    def call(self, method: str, params: list[Any]) -> Any:
        """The result of a method. Raises RpcError."""
        found = self._table.get(method)
        if found is None:
            raise RpcError(METHOD_NOT_FOUND, "Method not found")
        self._chain.tick()
        return found.call(Params(params))
