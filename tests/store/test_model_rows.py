"""Rows of models that admins gave to the market."""

from marketplace.domain.quantities import Millis
from marketplace.store.models import StoredModel, StoredModels


async def test_a_model_takes_the_place_of_the_one_of_its_name_whatever_its_case(store):
    for name, at in (("b", 1), ("A", 2), ("B", 3)):
        kept = StoredModel(name, f'{{"image":"{at}"}}', "wallet", Millis(at))
        await store.write(lambda tx, kept=kept: StoredModels(tx).put(kept))
    found = await store.read(lambda tx: StoredModels(tx).all())
    assert [(model.name, model.entry, model.changed_at) for model in found] == [
        ("A", '{"image":"2"}', 2),
        ("B", '{"image":"3"}', 3),
    ]
    assert await store.write(lambda tx: StoredModels(tx).delete("a"))
    assert not await store.write(lambda tx: StoredModels(tx).delete("a"))
    assert [model.name for model in await store.read(lambda tx: StoredModels(tx).all())] == ["B"]
