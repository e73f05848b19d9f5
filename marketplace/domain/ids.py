"""Public ids: a prefix that tells the kind, then 22 base58 characters of 128 bits, ordered by time.

The alphabet is in ASCII order and the width is fixed, so that sorting ids sorts by creation.
"""

from typing import Final, NewType

AccountId = NewType("AccountId", str)
JobId = NewType("JobId", str)
AllocationId = NewType("AllocationId", str)
NodeId = NewType("NodeId", str)
QuoteId = NewType("QuoteId", str)
EventId = NewType("EventId", str)
WebhookId = NewType("WebhookId", str)
TransactionId = NewType("TransactionId", str)
FileId = NewType("FileId", str)
UploadId = NewType("UploadId", str)
RegistryAuthId = NewType("RegistryAuthId", str)
KeyId = NewType("KeyId", str)
GroupId = NewType("GroupId", str)
CredentialId = NewType("CredentialId", str)

ALPHABET: Final = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
BODY_LENGTH: Final = 22
"""Characters after the prefix: the least that hold 128 bits (58^22 > 2^128)."""
_TIME_BITS: Final = 48
_RANDOM_BITS: Final = 80
_PAIR: Final = 58 * 58
_PAIRS: Final = tuple(first + second for first in ALPHABET for second in ALPHABET)
"""Two digits at a time: half as many divisions of a long number."""


def new_id(prefix: str, now_ms: int, random: int) -> str:
    """An id such as `job_1BkR…`.

    now_ms: milliseconds since the Unix epoch, 48 bits.
    random: at least 80 random bits from the caller's source; only the lowest 80 are taken.
    """
    number = ((now_ms & ((1 << _TIME_BITS) - 1)) << _RANDOM_BITS) | (random & ((1 << _RANDOM_BITS) - 1))
    pairs = []
    for _ in range(BODY_LENGTH // 2):
        number, pair = divmod(number, _PAIR)
        pairs.append(_PAIRS[pair])
    return f"{prefix}_{''.join(reversed(pairs))}"


def is_id(prefix: str, text: str) -> bool:
    """Whether `text` has the form of an id with this prefix; says nothing of its existence."""
    body = text.removeprefix(f"{prefix}_")
    return len(body) == BODY_LENGTH and len(text) == BODY_LENGTH + len(prefix) + 1 and all(c in ALPHABET for c in body)


def created_at_ms(text: str) -> int:
    """Milliseconds since the Unix epoch at which an id was made. Raises ValueError for what is no id."""
    prefix, _, body = text.rpartition("_")
    if not is_id(prefix, text):
        raise ValueError(f"not an id: {text[:64]}")
    number = 0
    for character in body:
        number = number * 58 + ALPHABET.index(character)
    return number >> _RANDOM_BITS
