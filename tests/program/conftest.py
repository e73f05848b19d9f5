import pytest

from tests.program.world import World, new_world


@pytest.fixture
def world() -> World:
    return new_world()
