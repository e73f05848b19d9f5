"""The cluster: one node, no stake, no votes, no inflation; and what clients ask to find that out."""

from dataclasses import dataclass
from typing import Any, Final

from solders.account import Account
from solders.pubkey import Pubkey

from marketplace.localnet.bank import SLOTS_PER_EPOCH
from marketplace.localnet.chain import Chain
from marketplace.localnet.rpc.envelope import BLOCK_NOT_AVAILABLE, NO_SNAPSHOT, RpcError, invalid_params
from marketplace.localnet.rpc.params import Params, as_pubkey, as_u64, as_variant, missing_field
from marketplace.localnet.rpc.reading import API_VERSION, Method, Reading
from marketplace.localnet.slots import Commitment

# Specified: Agave, rpc-client-api/src/request.rs.
_MOST_LEADERS: Final = 5_000
_MOST_SAMPLES: Final = 720
_MOST_LARGEST: Final = 20
# Specified: Agave, rpc/src/rpc_cache or sample_performance_service.rs: a sample a minute.
_SAMPLE_S: Final = 60


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where this node is asked, as getClusterNodes tells it."""

    rpc: str
    pubsub: str


class ClusterMethods(Reading):
    """endpoints is set once the server listens."""

    def __init__(self, chain: Chain) -> None:
        super().__init__(chain)
        self.endpoints: Endpoints | None = None

    def table(self) -> dict[str, Method]:
        return {
            "getHealth": Method(lambda _: "ok", 0, 0),
            "getVersion": Method(lambda _: {"solana-core": API_VERSION, "feature-set": None}, 0, 0),
            "getIdentity": Method(lambda _: {"identity": self._node}, 0, 0),
            "getGenesisHash": Method(lambda _: self._chain.identity.genesis_hash, 0, 0),
            "getClusterNodes": Method(lambda _: [self._node_json()], 0, 0),
            "getVoteAccounts": Method(self.get_vote_accounts, 0, 1),
            "getEpochSchedule": Method(lambda _: _schedule_json(), 0, 0),
            "getSlotLeader": Method(self.get_slot_leader, 0, 1),
            "getSlotLeaders": Method(self.get_slot_leaders, 2, 2),
            "getLeaderSchedule": Method(self.get_leader_schedule, 0, 2),
            "getInflationGovernor": Method(self.get_inflation_governor, 0, 1),
            "getInflationRate": Method(lambda _: self._inflation_rate_json(), 0, 0),
            "getInflationReward": Method(self.get_inflation_reward, 1, 2),
            "getSupply": Method(self.get_supply, 0, 1),
            "getLargestAccounts": Method(self.get_largest_accounts, 0, 1),
            "getHighestSnapshotSlot": Method(_no_snapshot, 0, 0),
            "getMaxRetransmitSlot": Method(lambda _: 0, 0, 0),  # no shred was ever sent on
            "getMaxShredInsertSlot": Method(lambda _: 0, 0, 0),
            "getRecentPerformanceSamples": Method(self.get_performance_samples, 0, 1),
            "getBlockProduction": Method(self.get_block_production, 0, 1),
        }

    def get_vote_accounts(self, params: Params) -> dict[str, list[Any]]:
        config = params.config(0, "RpcGetVoteAccountsConfig")
        if config.raw("votePubkey") is not None:
            as_pubkey(config.raw("votePubkey"))
        return {"current": [], "delinquent": []}

    def get_slot_leader(self, params: Params) -> str:
        self._slot(params.config(0))
        return self._node

    def get_slot_leaders(self, params: Params) -> list[str]:
        params.need(2)
        first, limit = params.u64(0), params.u64(1)
        if limit > _MOST_LEADERS:
            raise invalid_params(f"Invalid limit; max {_MOST_LEADERS}")
        last_epoch = self._bank.slot_at(Commitment.PROCESSED) // SLOTS_PER_EPOCH + 1
        if (first + limit) // SLOTS_PER_EPOCH > last_epoch:
            raise invalid_params("Invalid slot range: leader schedule for epoch is unavailable")
        return [self._node] * limit

    def get_leader_schedule(self, params: Params) -> dict[str, list[int]] | None:
        """[slot | null, config] or [config]: the slot indexes of the epoch, all of them the node's."""
        first = params.optional_raw(0)
        config = params.config(0, "RpcLeaderScheduleConfig") if isinstance(first, dict) else params.config(1)
        slot = self._slot(config)
        wanted = config.raw("identity")
        if wanted is not None:
            as_pubkey(wanted)
        epoch = (slot if first is None or isinstance(first, dict) else as_u64(first)) // SLOTS_PER_EPOCH
        if epoch > self._bank.now.slot // SLOTS_PER_EPOCH + 1:
            return None
        return {self._node: list(range(SLOTS_PER_EPOCH))} if wanted in (None, self._node) else {}

    def get_inflation_governor(self, params: Params) -> dict[str, float]:
        self._slot(params.config(0))
        return dict.fromkeys(("foundation", "foundationTerm", "initial", "taper", "terminal"), 0.0)

    def get_inflation_reward(self, params: Params) -> list[None]:
        addresses = [as_pubkey(each) for each in params.list_of(0)]
        config = params.config(1, "RpcEpochConfig")
        slot = self._slot(config)
        epoch = config.integer("epoch")
        rewarded_in = ((epoch if epoch is not None else max(0, slot // SLOTS_PER_EPOCH - 1)) + 1) * SLOTS_PER_EPOCH
        if rewarded_in > slot:
            raise RpcError(BLOCK_NOT_AVAILABLE, f"Block not available for slot {rewarded_in}")
        return [None for _ in addresses]

    def get_supply(self, params: Params) -> dict[str, Any]:
        config = params.config(0, "RpcSupplyConfig")
        total = sum(account.lamports for _, account in self._bank.accounts(config.commitment()))
        supply = {"total": total, "circulating": total, "nonCirculating": 0, "nonCirculatingAccounts": []}
        return self._with_context(config, supply)

    def get_largest_accounts(self, params: Params) -> dict[str, Any]:
        config = params.config(0, "RpcLargestAccountsConfig")
        wanted = config.raw("filter")
        if wanted is not None:
            wanted = as_variant(wanted, ["circulating", "nonCirculating"])
        accounts = [] if wanted == "nonCirculating" else self._bank.accounts(config.commitment())
        largest = sorted(accounts, key=_by_lamports)[:_MOST_LARGEST]
        return self._with_context(
            config, [{"address": str(address), "lamports": account.lamports} for address, account in largest]
        )

    def get_performance_samples(self, params: Params) -> list[dict[str, int]]:
        """A sample for each whole minute of slots, newest first; votes are none, so all transactions are counted."""
        given = params.optional_raw(0)
        limit = as_u64(given, "usize") if given is not None else _MOST_SAMPLES
        if limit > _MOST_SAMPLES:
            raise invalid_params(f"Invalid limit; max {_MOST_SAMPLES}")
        slots = max(1, _SAMPLE_S * 1000 // self._chain.identity.slot_ms)
        newest = self._bank.slot_at(Commitment.FINALIZED) // slots
        samples = []
        for number in range(newest, max(0, newest - limit), -1):
            last = number * slots
            landed = self._chain.journal.count_between(last - slots + 1, last)
            samples.append(
                {
                    "slot": last,
                    "numSlots": slots,
                    "numTransactions": landed,
                    "numNonVoteTransactions": landed,
                    "samplePeriodSecs": _SAMPLE_S,
                }
            )
        return samples

    def get_block_production(self, params: Params) -> dict[str, Any]:
        config = params.config(0, "RpcBlockProductionConfig")
        newest = self._slot(config)
        wanted = config.raw("identity")
        if wanted is not None:
            as_pubkey(wanted)
        first, last = newest // SLOTS_PER_EPOCH * SLOTS_PER_EPOCH, newest
        span = config.object("range", "RpcBlockProductionConfigRange")
        if span is not None:
            asked = span.integer("firstSlot")
            if asked is None:
                raise missing_field("firstSlot")
            named = span.integer("lastSlot")
            first, last = asked, newest if named is None else named
            if first > newest:
                raise invalid_params(f"firstSlot, {first}, is too large; must be less or equal to {newest}")
            if last > newest:
                raise invalid_params(f"lastSlot, {last}, is too large; must be less or equal to {newest}")
        count = max(0, last - first + 1)
        produced = {self._node: [count, count]} if wanted in (None, self._node) else {}
        return self._with_context(config, {"byIdentity": produced, "range": {"firstSlot": first, "lastSlot": last}})

    def _node_json(self) -> dict[str, Any]:
        """No gossip, no TPU: transactions come by JSON-RPC alone."""
        asked = self.endpoints
        absent = (
            "gossip", "serveRepair", "tpu", "tpuForwards", "tpuForwardsQuic", "tpuQuic", "tpuVote", "tvu", "featureSet",
        )  # fmt: skip
        return {
            **dict.fromkeys(absent),
            "pubkey": self._node,
            "rpc": asked.rpc if asked is not None else None,
            "pubsub": asked.pubsub if asked is not None else None,
            "shredVersion": 0,
            "version": API_VERSION,
        }

    def _inflation_rate_json(self) -> dict[str, float]:
        return {"epoch": self._bank.now.slot // SLOTS_PER_EPOCH, "foundation": 0.0, "total": 0.0, "validator": 0.0}


def _schedule_json() -> dict[str, Any]:
    return {
        "slotsPerEpoch": SLOTS_PER_EPOCH,
        "leaderScheduleSlotOffset": SLOTS_PER_EPOCH,
        "warmup": False,
        "firstNormalEpoch": 0,
        "firstNormalSlot": 0,
    }


def _no_snapshot(_: Params) -> None:
    raise RpcError(NO_SNAPSHOT, "No snapshot")


def _by_lamports(item: tuple[Pubkey, Account]) -> tuple[int, bytes]:
    """Richest first, then by address, so that the answer doesn't depend on the order of storage."""
    address, account = item
    return -account.lamports, bytes(address)
