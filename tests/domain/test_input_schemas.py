"""The part of JSON Schema that models' entries may use: what it refuses, and what of it is refused itself."""

import json
import tomllib
from pathlib import Path

import pytest

from marketplace.domain.input_schemas import MAX_FAULTS, FaultKind, File, check_schema, faults

ROOT = Path(__file__).parents[2]
TEXTS = {"type": "array", "minItems": 1, "maxItems": 3, "items": {"type": "string", "minLength": 1}}
OBJECT = {
    "type": "object",
    "required": ["prompt"],
    "additionalProperties": False,
    "properties": {
        "prompt": {"type": "string", "maxLength": 5},
        "count": {"type": "integer", "minimum": 1, "maximum": 9, "default": 3},
        "share": {"type": "number", "minimum": 0},
        "kind": {"enum": ["a", 1, True], "type": "string"},
        "on": {"type": "boolean"},
        "none": {"type": "null"},
        "anything": {"description": "whatever"},
    },
}
FILE = {"type": "string", "format": "file"}
ANY = {"anyOf": [{"type": "string", "minLength": 1}, TEXTS, OBJECT, FILE]}


@pytest.mark.parametrize(
    ("schema", "value", "wanted"),
    [
        ({}, {"a": [1]}, []),
        ({"description": "x"}, None, []),
        ({"type": "string"}, "", []),
        ({"type": "string"}, File.GIVEN, [("", FaultKind.WRONG)]),
        (FILE, File.GIVEN, []),
        (FILE, "a text", [("", FaultKind.WRONG)]),
        (TEXTS, ["a", "b"], []),
        (TEXTS, [], [("", FaultKind.RANGE)]),
        (TEXTS, ["a"] * 4, [("", FaultKind.RANGE)]),
        (TEXTS, ["a", "", 5], [("1", FaultKind.RANGE), ("2", FaultKind.WRONG)]),
        (OBJECT, {"prompt": "a"}, []),
        (OBJECT, {"prompt": "a", "count": 9, "share": 0.5, "kind": "a", "on": False, "none": None, "anything": [1]}, []),
        (OBJECT, {}, [("prompt", FaultKind.MISSING)]),
        (OBJECT, {"prompt": "abcdef", "x": 1}, [("prompt", FaultKind.RANGE), ("x", FaultKind.UNKNOWN)]),
        (OBJECT, {"prompt": "a", "count": 0}, [("count", FaultKind.RANGE)]),
        (OBJECT, {"prompt": "a", "count": 1.5}, [("count", FaultKind.WRONG)]),
        (OBJECT, {"prompt": "a", "count": True}, [("count", FaultKind.WRONG)]),
        (OBJECT, {"prompt": "a", "on": 1}, [("on", FaultKind.WRONG)]),
        (OBJECT, {"prompt": "a", "kind": "b"}, [("kind", FaultKind.WRONG)]),
        (ANY, "a", []),
        (ANY, File.GIVEN, []),
        (ANY, ["a"], []),
        (ANY, {"prompt": "a"}, []),
        (ANY, ["a", ""], [("1", FaultKind.RANGE)]),
        (ANY, {"prompt": "a", "count": 0}, [("count", FaultKind.RANGE)]),
        (ANY, 5, [("", FaultKind.WRONG)]),
        (ANY, "", [("", FaultKind.RANGE)]),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named_where_it_is(schema, value, wanted):
    check_schema(schema)
    assert [(fault.path, fault.kind) for fault in faults(schema, value)] == wanted


def test_words_say_what_there_may_be():
    (fault,) = faults(ANY, 5)
    assert fault.message == "must be a text or a list or an object or the file_id of an upload or a URL"
    (fault,) = faults(OBJECT, {"prompt": "a", "count": 10})
    assert fault.message == "must be at least 1 and at most 9"


def test_a_list_that_is_all_wrong_is_not_answered_with_all_of_it():
    assert len(faults({"type": "array", "items": {"type": "string"}}, [0] * 10_000)) == MAX_FAULTS


def test_a_name_as_long_as_the_input_is_not_repeated():
    (fault,) = faults({"type": "object", "additionalProperties": False}, {"x" * 1_000_000: 1})
    assert len(fault.path) < 100


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("string", "a table"),
        ({"type": "text"}, "type must be one of"),
        ({"type": ["string", "null"]}, "type must be one of"),
        ({"pattern": "^a"}, "type must be one of"),
        ({"type": "string", "pattern": "^a"}, "pattern of string"),
        ({"type": "string", "format": "email"}, "format of string"),
        ({"type": "integer", "format": "file"}, "format of integer"),
        ({"type": "string", "minLength": -1}, "minLength of string"),
        ({"type": "string", "minItems": 1}, "minItems of string"),
        ({"type": "array", "items": {"type": "x"}}, "type must be one of"),
        ({"type": "object", "properties": []}, "properties of object"),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "additionalProperties of object"),
        ({"type": "number", "minimum": "0"}, "minimum of number"),
        ({"type": "string", "enum": []}, "enum of string"),
        ({"anyOf": []}, "list of schemas"),
        ({"anyOf": [{"type": "string"}], "type": "string"}, "anyOf stands alone"),
        ({"oneOf": [{"type": "string"}]}, "type must be one of"),
    ],
)
def test_a_schema_that_says_what_is_not_checked_is_refused(schema, said):
    with pytest.raises(ValueError, match=said):
        check_schema(schema)


def test_a_schema_without_end_is_refused():
    schema = {"type": "string"}
    for _ in range(100):
        schema = {"type": "array", "items": schema}
    with pytest.raises(ValueError, match="deep"):
        check_schema(schema)


@pytest.mark.parametrize("name", ["gpt2", "minilm", "rapidocr"])
def test_the_schemas_of_our_models_are_checked_whole(name):
    file = ROOT / "marketplace" / "runners" / name / "model.toml"
    schema = tomllib.loads(file.read_text())["entry"]["input_schema"]
    check_schema(schema)
    assert faults(schema, File.GIVEN) == (), "each of them takes a file"
    assert faults(schema, json.loads("5")) != ()
