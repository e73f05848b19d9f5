from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conformance import chains
from tests.conformance.comparison import Found, compare_all
from tests.conformance.world import World, build


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """This folder's tests in a row, in whatever order: the validator they share runs no longer than they do."""
    here = Path(__file__).parent
    ours = [item for item in items if here in item.path.parents]
    items[:] = [item for item in items if here not in item.path.parents] + ours


@pytest.fixture(scope="package")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, World]]:
    """On the localnet and on a validator, made side by side: most of it is waiting for slots.

    Slots of 100 ms on both: a lookup table serves once it is final, which takes 32 of them.
    """
    folder = tmp_path_factory.mktemp("conformance")
    with (
        chains.localnet(folder / "localnet") as localnet,
        chains.validator(folder / "validator", "--ticks-per-slot", "16") as validator,
        ThreadPoolExecutor() as pool,
    ):
        ours, theirs = pool.map(build, (localnet, validator))
        yield ours, theirs


@pytest.fixture(scope="package")
def localnet_world(worlds: tuple[World, World]) -> World:
    return worlds[0]


@pytest.fixture(scope="package")
def validator_world(worlds: tuple[World, World]) -> World:
    return worlds[1]


@pytest.fixture(scope="package")
def found(localnet_world: World, validator_world: World) -> dict[str, list[Found]]:
    """Every case asked of both chains, once."""
    return compare_all(localnet_world, validator_world)
