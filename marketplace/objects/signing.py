"""Signatures of requests to S3 services: AWS Signature Version 4, as botocore makes it. Nothing is sent here."""

from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, urlencode

_SAFE: Final = "/-_.~"
"""What stands unchanged in a key. Source: AWS Signature Version 4 for S3, "UriEncode"."""


@dataclass(frozen=True, slots=True)
class BucketLogin:
    """Where a bucket is and who we are there. endpoint: the service's URL, without a path."""

    endpoint: str
    region: str
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request as it is to be sent."""

    method: str
    url: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)


def signed_request(
    login: BucketLogin,
    method: str,
    key: str,
    *,
    query: dict[str, str] | None = None,
    body: bytes = b"",
    content_type: str | None = None,
) -> SignedRequest:
    """A request for one object of the bucket, by its path; the signature covers the body.

    It holds for a quarter of an hour: S3 refuses one whose time is further from its own.
    """
    # Heavy, and only a market that delivers needs it.
    from botocore.auth import S3SigV4Auth  # noqa: PLC0415
    from botocore.awsrequest import AWSRequest  # noqa: PLC0415
    from botocore.credentials import Credentials  # noqa: PLC0415

    url = f"{login.endpoint.rstrip('/')}/{login.bucket}/{quote(key, safe=_SAFE)}"
    if query:
        url += "?" + urlencode(sorted(query.items()), quote_via=quote, safe="-_.~")
    headers = {} if content_type is None else {"Content-Type": content_type}
    request = AWSRequest(method=method, url=url, headers=headers, data=body)
    S3SigV4Auth(Credentials(login.access_key, login.secret_key), "s3", login.region).add_auth(request)
    return SignedRequest(method, url, {str(name): str(value) for name, value in request.headers.items()}, body)
