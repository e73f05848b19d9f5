"""The key ring file: made once, private, rotated by adding a key."""

import base64

import orjson
import pytest

from marketplace.errors import SettingsError
from marketplace.services.clock import SystemRandom
from marketplace.services.key_ring import create_key_ring, load_key_ring


def test_a_ring_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "keys" / "tokens.json"
    ring = create_key_ring(path, SystemRandom())
    assert len(ring.signing_key) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    assert create_key_ring(path, SystemRandom()) == ring


def test_a_rotated_ring_verifies_with_both_keys(tmp_path):
    path = tmp_path / "tokens.json"
    old = create_key_ring(path, SystemRandom())
    document = orjson.loads(path.read_bytes())
    document["keys"]["new"] = base64.b64encode(b"n" * 32).decode()
    document["current"] = "new"
    path.write_bytes(orjson.dumps(document))
    ring = load_key_ring(path)
    assert ring.signing_key == b"n" * 32
    assert ring.keys[old.current] == old.signing_key


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"current":"a","keys":{}}',
        b'{"current":"a","keys":{"a":"!!"}}',
        b'{"current":"a","keys":{"a":"c2hvcnQ="}}',
    ],
)
def test_what_is_no_ring_is_refused(tmp_path, content):
    path = tmp_path / "tokens.json"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(SettingsError):
        load_key_ring(path)


def test_a_ring_that_others_can_read_is_refused(tmp_path):
    path = tmp_path / "tokens.json"
    create_key_ring(path, SystemRandom())
    path.chmod(0o644)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_key_ring(path)
    with pytest.raises(SettingsError, match="init"):
        load_key_ring(tmp_path / "absent.json")
