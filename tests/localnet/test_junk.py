"""Whatever comes in, each method answers or refuses by RpcError: nothing else ever leaves it."""

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from marketplace.localnet.chain import Chain
from marketplace.localnet.config import PAYMENT_MINT, ChainConfig
from marketplace.localnet.rpc.envelope import RpcError, answer
from marketplace.localnet.rpc.methods import Methods

TOKENS = "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA"
SIGNATURE = "5wLw6RcWCSPj5a11LrduoLuDZmQ5nveDosHdaLMhcstgfRuVynk94bnStnqXXtF7pYHGcaUdpdPtKPB3ouAbLyZx"
NAMES = [
    "encoding",
    "commitment",
    "preflightCommitment",
    "minContextSlot",
    "dataSlice",
    "filters",
    "offset",
    "length",
    "bytes",
    "memcmp",
    "dataSize",
    "mint",
    "programId",
    "limit",
    "before",
    "until",
    "accounts",
    "addresses",
    "skipPreflight",
    "sigVerify",
    "replaceRecentBlockhash",
    "withContext",
    "innerInstructions",
    "maxSupportedTransactionVersion",
    "lamports",
    "payment",
    "stake",
    "searchTransactionHistory",
]

scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**64), 2**65)
    | st.floats(allow_nan=False)
    | st.text(max_size=20)
    | st.sampled_from(
        [TOKENS, PAYMENT_MINT, SIGNATURE, "base58", "base64", "jsonParsed", "processed", "confirmed", "AAAA"]
    )
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=3),
    max_leaves=8,
)

configs = st.dictionaries(st.sampled_from(NAMES), values, max_size=4)
plausible = st.tuples(st.sampled_from([TOKENS, PAYMENT_MINT, SIGNATURE, "AAAA", 5]), configs, configs).map(list)


@pytest.fixture(scope="module")
def methods() -> Methods:
    return Methods(Chain.in_memory(ChainConfig()))


METHODS = sorted(Methods(Chain.in_memory(ChainConfig()))._table)


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(params=st.lists(values, max_size=3) | plausible)
def test_junk_parameters_are_refused(methods: Methods, method: str, params: list) -> None:
    with contextlib.suppress(RpcError):
        methods.call(method, params)


@settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=200))
def test_junk_bodies_are_answered(methods: Methods, body: bytes) -> None:
    answer(body, methods.call)
