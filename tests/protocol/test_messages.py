import dataclasses
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from marketplace.protocol.claims import ClaimMessage
from marketplace.protocol.vouchers import VoucherMessage, VoucherState

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "messages.json").read_text())
u64 = st.integers(0, 2**64 - 1)
key = st.binary(min_size=32, max_size=32)
vouchers = st.builds(
    VoucherMessage,
    program_id=key, genesis_hash=key, escrow=key, attempt=st.integers(0, 2**32 - 1), wallet=key, node=key,
    sequence=u64, started_at_ms=st.integers(0, 2**62), at_ms=st.integers(0, 2**62), billed_ms=u64, amount=u64,
    state=st.sampled_from(VoucherState), reason=st.integers(0, 2**16 - 1), digest=key,
)  # fmt: skip


def read(message, values):
    fields = {f.name: f.type for f in dataclasses.fields(message)}
    return message(**{n: bytes.fromhex(v) if fields[n] in (bytes, "bytes") else int(v) for n, v in values.items()})


@pytest.mark.parametrize("vector", GOLDEN["claims"])
def test_claims_sign_the_golden_bytes(vector):
    claim = read(ClaimMessage, vector["fields"])
    assert claim.fields().hex() == vector["packed"]
    assert claim.signing_bytes().hex() == vector["signed"]
    assert len(claim.signing_bytes()) == 48


@pytest.mark.parametrize("vector", GOLDEN["vouchers"])
def test_vouchers_sign_the_golden_bytes(vector):
    voucher = read(VoucherMessage, vector["fields"])
    assert voucher.fields().hex() == vector["packed"]
    assert voucher.signing_bytes().hex() == vector["signed"]


@given(vouchers)
def test_a_voucher_survives_its_bytes(voucher):
    assert VoucherMessage.from_fields(voucher.fields()) == voucher


@given(vouchers, vouchers)
def test_two_vouchers_never_sign_the_same_bytes(one, other):
    assert (one == other) == (one.signing_bytes() == other.signing_bytes())


def test_bytes_of_another_length_or_state_are_refused():
    raw = bytes.fromhex(GOLDEN["vouchers"][0]["packed"])
    for broken in (raw[:-1], raw + b"\0", b""):
        with pytest.raises(ValueError, match="bytes"):
            VoucherMessage.from_fields(broken)
    state_at = len(raw) - 32 - 2 - 1
    with pytest.raises(ValueError, match="7"):
        VoucherMessage.from_fields(raw[:state_at] + b"\7" + raw[state_at + 1 :])
