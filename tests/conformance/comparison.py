"""How two answers are compared: names, types, errors to the letter, and values where both chains hold the same."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.conformance.cases import BODIES, CASES, Same
from tests.conformance.chains import Chain
from tests.conformance.world import World

# Values that are each chain's own wherever they appear: only their type is compared.
OWN = frozenset(
    {
        "apiVersion", "slot", "contextSlot", "blockTime", "lastValidBlockHeight", "confirmations",
        "confirmationStatus", "recentSlot", "bumpSeed", "lastExtendedSlot", "blockhash", "previousBlockhash",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Found:
    """One difference. path: where in the answer; the two sides, as JSON or as the name of a type."""

    case: str
    path: str
    localnet: Any
    validator: Any


def seen(answer: Any, world: World, same: Same) -> Any:
    """The answer as it is compared."""
    return _masked(answer, world, same is Same.VALUE, ("",))


def _masked(value: Any, world: World, exact: bool, path: tuple[str, ...]) -> Any:
    if isinstance(value, dict):
        errors = exact or path[-1] == "error"
        return {_named(name, world): _masked(each, world, errors, (*path, name)) for name, each in value.items()}
    if isinstance(value, list):
        shown = [_masked(each, world, exact, path) for each in value]
        if exact:
            return shown
        distinct: list[Any] = []
        for each in shown:
            if each not in distinct:
                distinct.append(each)
        return distinct
    if not exact or path[-1] in OWN:
        return f"<{type(value).__name__}>"
    return _named(value, world) if isinstance(value, str) else value


def _named(text: str, world: World) -> str:
    return world.labels.get(text, text)


def differences(case: str, ours: Any, theirs: Any, path: str = "") -> Iterator[Found]:
    """What is different, as deep in the answers as it can be said."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for name in sorted(ours.keys() | theirs.keys()):
            where = f"{path}.{name}" if path else name
            if name not in ours:
                yield Found(case, where, "<absent>", theirs[name])
            elif name not in theirs:
                yield Found(case, where, ours[name], "<absent>")
            else:
                yield from differences(case, ours[name], theirs[name], where)
    elif isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        for left, right in zip(ours, theirs, strict=True):
            yield from differences(case, left, right, f"{path}[]")
    elif ours != theirs or type(ours) is not type(theirs):
        yield Found(case, path, ours, theirs)


def compare_all(localnet: World, validator: World) -> dict[str, list[Found]]:
    """Every case and body, asked of both chains: what differs, by the case's name."""
    for world in (localnet, validator):
        world.settle()  # a status says how many confirmations there are until there are all
    found: dict[str, list[Found]] = {}
    for case in CASES:
        sides = [
            seen(world.chain.answer(case.method, case.params(world)), world, case.same)
            for world in (localnet, validator)
        ]
        found[case.name] = list(differences(case.name, *sides))
    for name, body in BODIES.items():
        sides = [seen(_body(world.chain, body), world, Same.VALUE) for world in (localnet, validator)]
        found[name] = list(differences(name, *sides))
    return found


def _body(chain: Chain, body: bytes) -> Any:
    return chain.post(body)
