import pytest
from nacl.signing import SigningKey

from marketplace.protocol.sealing import NotForUs, seal, unseal
from marketplace.protocol.signatures import sign, verify


def test_only_the_node_s_own_key_opens_what_was_sealed_to_it():
    node, stranger = SigningKey(b"n" * 32), SigningKey(b"s" * 32)
    box = seal(bytes(node.verify_key), b"secret")
    assert b"secret" not in box
    assert unseal(bytes(node), box) == b"secret"
    with pytest.raises(NotForUs):
        unseal(bytes(stranger), box)
    with pytest.raises(NotForUs):
        unseal(bytes(node), box[:-1] + bytes([box[-1] ^ 1]))


def test_a_signature_holds_for_its_key_and_message_only():
    key = SigningKey(b"k" * 32)
    signature = sign(bytes(key), b"message")
    assert verify(bytes(key.verify_key), b"message", signature)
    assert not verify(bytes(key.verify_key), b"messagf", signature)
    assert not verify(bytes(SigningKey(b"x" * 32).verify_key), b"message", signature)
    assert not verify(bytes(key.verify_key), b"message", signature[:-1])
    assert not verify(b"short", b"message", signature)
