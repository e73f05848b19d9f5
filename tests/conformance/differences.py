"""The differences that stay, each with its reason. docs/localnet.md has the same table, and a test compares them.

A difference that no case shows any more fails the suite, as one does that isn't listed here.
"""

from dataclasses import dataclass
from fnmatch import fnmatchcase

from tests.conformance.comparison import Found


@dataclass(frozen=True)
class Difference:
    """cases and paths: patterns as of a shell; what: a row of the table, with the reason."""

    cases: str
    paths: str
    what: str
    localnet: str
    agave: str
    why: str

    def covers(self, found: Found) -> bool:
        # "[" is a character class to fnmatch, and lists are in most paths: they are written as "#" here.
        return fnmatchcase(found.case, self.cases) and fnmatchcase(found.path.replace("[]", "#"), self.paths)

    def row(self) -> str:
        return f"| {self.what} | {self.localnet} | {self.agave} | {self.why} |"


DIFFERENCES = (
    Difference(
        "version", "result.feature-set",
        "getVersion, feature-set", "null", "a number", "LiteSVM doesn't say which features it has",
    ),
    Difference(
        "cluster nodes", "result#.*",
        "getClusterNodes, ports of gossip, TPU, TVU, repair", "null", "addresses",
        "one process, reached by JSON-RPC alone",
    ),
    Difference(
        "vote accounts", "result.current",
        "getVoteAccounts", "none", "the node's own", "nobody votes, nothing is staked",
    ),
    Difference(
        "another sysvar parsed", "result.value.data",
        "jsonParsed of sysvars but the clock and rent, and of nonce, stake, vote, config and loader accounts",
        "base64", "in words",
        "nothing here uses them",
    ),
    Difference(
        "stake minimum delegation", "*",
        "getStakeMinimumDelegation", "-32601", "a number", "no stake on this chain",
    ),
    Difference(
        "block*", "result.rewards",
        "getBlock, rewards", "empty", "the leader's half of the fees", "fees are burned: no leader earns them",
    ),
    Difference(
        "*", "*.costUnits",
        "costUnits of a transaction", "absent", "a number", "the cost model of a block's packer, which there isn't",
    ),
    Difference(
        "*", "*Balances#",
        "lamports of programs and sysvars the chain is born with", "1", "their rent", "LiteSVM makes them so",
    ),
    Difference(
        "transaction tokens in *", "*.computeUnitsConsumed",
        "compute units of the associated token program", "Agave 2.2's", "fewer by about 1 %",
        "LiteSVM carries an older build of it",
    ),
    Difference(
        "transaction tokens in *", "*.logMessages#",
        "the same, in logs", "Agave 2.2's", "fewer by about 1 %", "as above",
    ),
    Difference(
        "simulate a first holding", "result.value.*",
        "the same, in simulations", "Agave 2.2's", "fewer by about 1 %", "as above",
    ),
    Difference(
        "transaction table in *", "*.computeUnitsConsumed",
        "compute units of the lookup table program", "750 an instruction", "thousands",
        "built into Agave 2.2, a BPF program in 3.x",
    ),
    Difference(
        "transaction table in *", "*.logMessages",
        "logs of the lookup table program", "its frames alone", "its own lines, too", "as above",
    ),
    Difference(
        "transaction all of others in *", "*.computeUnitsConsumed",
        "the same, of one that fails", "750", "more", "as above",
    ),
    Difference(
        "transaction all of others in *", "*.logMessages",
        "the same, in its logs", "its frames alone", "its own lines, too", "as above",
    ),
    Difference(
        "params for a method without", "error.data",
        'data beside "No parameters were expected"', "absent", "Rust's own notation of them", "nothing reads it",
    ),
)  # fmt: skip
