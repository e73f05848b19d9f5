"""The IDL, read by others: Anchor's own command (the Rust types of its specification) and codama."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.witness import values
from tests.witness.javascript import ANCHOR_CLI, IDL, LEGACY_IDL, require_packages, run
from tests.witness.values import DOCUMENT

pytestmark = [pytest.mark.witness, pytest.mark.xdist_group("witness-coders")]


def anchor(*arguments: str | Path) -> str:
    """What `anchor` writes with `--out`-less commands. It takes no home folder, no network."""
    require_packages()
    done = subprocess.run([ANCHOR_CLI, *arguments], check=False, capture_output=True, text=True, timeout=60, env={})
    assert done.returncode == 0, done.stderr
    return done.stdout


def camel(name: str) -> str:
    lowered = name[0].lower() + name[1:]
    return re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), lowered)


@pytest.fixture(scope="module")
def tree() -> dict[str, Any]:
    return run("tree.mjs", {"idl": DOCUMENT})


def test_anchors_command_is_the_one_that_was_asked_for() -> None:
    assert anchor("--version") == "anchor-cli 0.30.1\n"


def test_anchor_parses_the_idl_and_writes_the_same() -> None:
    """`convert` parses an IDL of the current specification into Anchor's own types, and prints those."""
    assert json.loads(anchor("idl", "convert", IDL)) == DOCUMENT


def test_anchor_converts_the_legacy_idl_to_the_current_one(tmp_path: Path) -> None:
    """Its conversion computes the discriminators anew. What it drops: events' own docs, and the description."""
    legacy = json.loads(LEGACY_IDL.read_text())
    # where Anchor's deployment notes the address, which the legacy form has no place of its own for
    (tmp_path / "legacy.json").write_text(json.dumps(legacy | {"metadata": {"address": DOCUMENT["address"]}}))
    converted = json.loads(anchor("idl", "convert", tmp_path / "legacy.json"))
    events = {entry["name"] for entry in DOCUMENT["events"]}
    expected = DOCUMENT | {
        "metadata": {key: value for key, value in DOCUMENT["metadata"].items() if key != "description"},
        "types": [
            {key: value for key, value in entry.items() if key != "docs" or entry["name"] not in events}
            for entry in DOCUMENT["types"]
        ],
    }
    for document in (converted, expected):
        document["types"] = sorted(document["types"], key=lambda entry: entry["name"])
    assert converted == expected


def test_anchor_writes_a_typescript_type_of_the_whole_idl() -> None:
    text = anchor("idl", "type", IDL)
    start = text.index("export type ReaverMarket = ") + len("export type ReaverMarket = ")
    written = json.loads(text[start:].strip().removesuffix(";"))
    assert [entry["name"] for entry in written["instructions"]] == [
        camel(entry["name"]) for entry in DOCUMENT["instructions"]
    ]
    for part in ("accounts", "events", "errors", "types"):
        assert [entry["name"] for entry in written[part]] == [camel(entry["name"]) for entry in DOCUMENT[part]]
        assert [entry.get("discriminator") for entry in written[part]] == [
            entry.get("discriminator") for entry in DOCUMENT[part]
        ]


def test_anchor_refuses_an_idl_with_a_type_that_is_none(tmp_path: Path) -> None:
    """That it parses is worth something: it doesn't take everything."""
    broken = json.loads(IDL.read_text())
    broken["types"][0]["type"]["fields"][0]["type"] = {"definde": {"name": "Params"}}
    (tmp_path / "broken.json").write_text(json.dumps(broken))
    with pytest.raises(AssertionError):
        anchor("idl", "type", tmp_path / "broken.json")


def test_codamas_tree_has_as_many_of_everything(tree: dict[str, Any]) -> None:
    counts = tree["counts"]
    assert tree["kind"] == "rootNode"
    assert (tree["address"], tree["version"]) == (DOCUMENT["address"], DOCUMENT["metadata"]["version"])
    assert (tree["name"], counts["programNode"]) == (camel(DOCUMENT["metadata"]["name"]), 1)
    instructions = DOCUMENT["instructions"]
    assert counts["instructionNode"] == len(instructions)
    assert counts["instructionAccountNode"] == sum(len(entry["accounts"]) for entry in instructions)
    # each with its discriminator
    assert counts["instructionArgumentNode"] == sum(len(entry["args"]) + 1 for entry in instructions)
    assert counts["accountNode"] == len(DOCUMENT["accounts"])
    assert counts["eventNode"] == len(DOCUMENT["events"])
    assert counts["errorNode"] == len(DOCUMENT["errors"])
    held = {entry["name"] for entry in DOCUMENT["accounts"] + DOCUMENT["events"]}
    assert counts["definedTypeNode"] == len([entry for entry in DOCUMENT["types"] if entry["name"] not in held])
    # an account's fields have the discriminator among them
    fields = sum(len(entry["type"]["fields"]) for entry in DOCUMENT["types"])
    assert counts["structFieldTypeNode"] == fields + len(DOCUMENT["accounts"])


def test_codamas_validators_find_nothing(tree: dict[str, Any]) -> None:
    assert tree["findings"] == []


def test_codama_computes_the_same_sizes(tree: dict[str, Any]) -> None:
    expected: dict[str, dict[str, int]] = {kind: {} for kind in values.KINDS}
    for case in values.cases():
        expected[case.kind][camel(case.name)] = len(case.data)
    assert tree["sizes"] == expected


def test_codama_reads_the_same_accounts_and_arguments_of_each_instruction(tree: dict[str, Any]) -> None:
    assert tree["instructions"] == {
        camel(entry["name"]): {
            "accounts": [
                [camel(each["name"]), *(each.get(flag, False) for flag in ("signer", "writable", "optional"))]
                for each in entry["accounts"]
            ],
            "arguments": [camel(each["name"]) for each in entry["args"]],
            # an absent account is given as the program: what our program expects (Anchor's rule)
            "absent": "programId",
        }
        for entry in DOCUMENT["instructions"]
    }


def test_codama_reads_the_same_errors(tree: dict[str, Any]) -> None:
    assert tree["errors"] == [[e["code"], camel(e["name"]), e["msg"]] for e in DOCUMENT["errors"]]
