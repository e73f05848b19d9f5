"""Secrets at rest: opened for what they were sealed for, by a ring that still holds the key, and by nothing else."""

import base64
from dataclasses import replace

import orjson
import pytest

from marketplace.services.clock import SystemRandom
from marketplace.services.key_ring import create_key_ring, load_key_ring
from marketplace.services.stored_secrets import RING_FILE, SecretKeeper, Unreadable


@pytest.fixture
def path(tmp_path):
    create_key_ring(tmp_path / RING_FILE, SystemRandom())
    return tmp_path / RING_FILE


@pytest.fixture
def keeper(path):
    return SecretKeeper(load_key_ring(path), SystemRandom())


def test_a_value_opens_for_what_it_was_sealed_for(keeper):
    stored = keeper.seal("job a", b"planted")
    assert keeper.unseal("job a", stored) == b"planted"
    assert b"planted" not in stored.sealed
    assert keeper.seal("job a", b"planted").sealed != stored.sealed


@pytest.mark.parametrize("harm", ["purpose", "bytes", "short", "key"])
def test_a_copied_or_altered_row_opens_nothing(keeper, harm):
    stored = keeper.seal("job a", b"planted")
    purpose = "job b" if harm == "purpose" else "job a"
    if harm == "bytes":
        stored = replace(stored, sealed=stored.sealed[:-1] + bytes([stored.sealed[-1] ^ 1]))
    elif harm == "short":
        stored = replace(stored, sealed=stored.sealed[:5])
    elif harm == "key":
        stored = replace(stored, key_id="gone")
    with pytest.raises(Unreadable) as caught:
        keeper.unseal(purpose, stored)
    assert "planted" not in str(caught.value)


def test_after_a_rotation_both_keys_open_and_the_new_one_seals(path, keeper):
    before = keeper.seal("job a", b"planted")
    document = orjson.loads(path.read_bytes())
    document["keys"]["new"] = base64.b64encode(b"n" * 32).decode()
    document["current"] = "new"
    path.write_bytes(orjson.dumps(document))
    rotated = SecretKeeper(load_key_ring(path), SystemRandom())
    assert rotated.unseal("job a", before) == b"planted"
    assert rotated.seal("job a", b"x").key_id == "new"
