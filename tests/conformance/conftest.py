from collections.abc import Iterator

import pytest

from tests.conformance import chains
from tests.conformance.comparison import Found, compare_all
from tests.conformance.world import World, build


@pytest.fixture(scope="session")
def localnet_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with chains.localnet(tmp_path_factory.mktemp("conformance-localnet")) as chain:
        yield build(chain)


@pytest.fixture(scope="session")
def validator_world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Slots of 100 ms, as the localnet's here: a lookup table serves once it is final, which takes 32 of them."""
    with chains.validator(tmp_path_factory.mktemp("conformance-validator"), "--ticks-per-slot", "16") as chain:
        yield build(chain)


@pytest.fixture(scope="session")
def found(localnet_world: World, validator_world: World) -> dict[str, list[Found]]:
    """Every case asked of both chains, once."""
    return compare_all(localnet_world, validator_world)
