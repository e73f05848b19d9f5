"""What a job left: fetched whole, checked, and never out of its folder."""

from pathlib import Path

import pytest

from marketplace.client.errors import MalformedAnswer
from marketplace.client.outputs import safe_parts
from tests.client.conftest import ClientFactory
from tests.client.fake_market import FakeMarket

LEFT = {"result.json": b"{}", "deep/er/model.bin": bytes(range(256)), "empty": b"", "spaced name": b"x", "deep/b": b"b"}
LEFT |= {"n" * 255: b"as long as a name may be", ".empty.part": b"named as what is on its way might be"}


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_every_file_comes_as_it_was_left(market: FakeMarket, new_client: ClientFactory, tmp_path: Path) -> None:
    market.outputs = dict(LEFT)
    folder = tmp_path / "results"
    fetched = await new_client().outputs.fetch("job_1", folder)
    assert {output.path for output in fetched} == set(LEFT)
    assert files_in(folder) == LEFT


async def test_other_bytes_than_promised_are_not_written(
    market: FakeMarket, new_client: ClientFactory, tmp_path: Path
) -> None:
    market.outputs, market.delivered = {"a": b"promised"}, {"a": b"other"}
    with pytest.raises(MalformedAnswer):
        await new_client().outputs.fetch("job_1", tmp_path / "results")
    assert files_in(tmp_path / "results") == {}


BAD = ["/etc/passwd", "../x", "a/../../x", "a/..", "", ".", "a\\..\\x", "a\0b", "a\nb", "//x"]


@pytest.mark.parametrize("path", BAD)
def test_no_path_leads_out(path: str) -> None:
    with pytest.raises(MalformedAnswer):
        safe_parts(path)


async def test_a_path_that_leads_out_is_not_asked_for(
    market: FakeMarket, new_client: ClientFactory, tmp_path: Path
) -> None:
    market.outputs = {"../evil": b"x"}
    with pytest.raises(MalformedAnswer):
        await new_client().outputs.fetch("job_1", tmp_path / "inside")
    assert [seen.path for seen in market.seen if seen.path.endswith("/download")] == []
