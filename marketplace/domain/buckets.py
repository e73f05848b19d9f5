"""Where in a bucket of the renter's the outputs of a job go, and how far their delivery is."""

import ipaddress
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

_SCHEME: Final = "s3://"
_BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9.-]{1,61})[a-z0-9]")
"""Names that every S3 service takes. Source: Amazon S3 user guide, "General purpose bucket naming rules"."""
MAX_PREFIX_BYTES: Final = 256
"""Chosen: with a path of 1,024 bytes a key would pass S3's own 1,024; see `key`."""
MAX_KEY_BYTES: Final = 1024
"""Specified: Amazon S3 user guide, "Naming objects"."""


class MalformedPlace(ValueError):
    """A text is no `s3://bucket/prefix`; the message completes "destination …"."""


@dataclass(frozen=True, slots=True)
class BucketPlace:
    """A bucket and what every key in it begins with, "" for nothing; without slashes at its ends."""

    bucket: str
    prefix: str = ""

    def key(self, name: str) -> str:
        """The key of an object below the prefix."""
        return f"{self.prefix}/{name}" if self.prefix else name

    def __str__(self) -> str:
        """As it is written in a job."""
        return f"{_SCHEME}{self.bucket}/{self.prefix}" if self.prefix else f"{_SCHEME}{self.bucket}"


class DeliveryState(StrEnum):
    """How far the delivery of a job's outputs to its bucket is."""

    WAITING = "waiting"
    """The job leaves nothing yet."""
    DELIVERING = "delivering"
    DELIVERED = "delivered"
    FAILED = "failed"
    """What is left is kept here only."""


def is_bucket_destination(text: str) -> bool:
    """Whether it names a bucket, well or not."""
    return text.startswith(_SCHEME)


def parse_place(text: str) -> BucketPlace:
    """`s3://bucket` or `s3://bucket/prefix`. Raises MalformedPlace."""
    if not is_bucket_destination(text):
        raise MalformedPlace("must be local or s3://bucket/prefix")
    bucket, _, prefix = text.removeprefix(_SCHEME).partition("/")
    if not _BUCKET.fullmatch(bucket) or ".." in bucket or _is_address(bucket):
        raise MalformedPlace("names no bucket: 3 to 63 of a-z, 0-9, . and -")
    prefix = prefix.removesuffix("/")
    if len(prefix.encode(errors="surrogatepass")) > MAX_PREFIX_BYTES:
        raise MalformedPlace(f"has a prefix of more than {MAX_PREFIX_BYTES} bytes")
    if prefix and any(not part.isprintable() or part in ("", ".", "..") for part in prefix.split("/")):
        raise MalformedPlace("has a prefix with an empty part, a part that leads up, or characters that can't be shown")
    return BucketPlace(bucket, prefix)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
