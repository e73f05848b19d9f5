import pytest

from node.runtime.errors import ImageFault, ImageUnavailable
from node.runtime.references import ImageName

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("busybox", ImageName("busybox", None, "latest", None)),
        ("user/image:1.2", ImageName("user/image", None, "1.2", None)),
        ("ghcr.io/a/b-c/d_e:x", ImageName("ghcr.io/a/b-c/d_e", "ghcr.io", "x", None)),
        ("localhost/x", ImageName("localhost/x", "localhost", "latest", None)),
        ("127.0.0.1:5000/a/b:1", ImageName("127.0.0.1:5000/a/b", "127.0.0.1:5000", "1", None)),
        (f"[::1]:5000/a@{DIGEST}", ImageName("[::1]:5000/a", "[::1]:5000", None, DIGEST)),
        (f"a.b/c:tag@{DIGEST}", ImageName("a.b/c", "a.b", "tag", DIGEST)),
    ],
)
def test_references_are_read_as_engines_read_them(reference: str, expected: ImageName) -> None:
    assert ImageName.parse(reference) == expected


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "Upper",
        "User/image",
        "a//b",
        "/a",
        "a/",
        "a:",
        "a@",
        "a@sha256:00",
        "a@md5:" + "0" * 32,
        "a:b:c",
        "-a",
        "a..b",
        "a b",
        "a\n",
        "../a",
        "a?x=1",
        "a#b",
        "x" * 300,
        "https://a/b",
        "a-" * 200 + "/",
    ],
)
def test_what_is_no_reference_is_refused(reference: str) -> None:
    with pytest.raises(ImageUnavailable) as caught:
        ImageName.parse(reference)
    assert caught.value.fault is ImageFault.INVALID
