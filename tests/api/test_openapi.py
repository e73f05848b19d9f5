"""The committed copy of /openapi.json, and what readers of it may rely on."""

import json
import re

import pytest

from scripts.openapi_document import COPY, document


@pytest.fixture(scope="module")
def declared():
    return document()


def test_the_committed_copy_is_what_the_routes_declare(declared):
    assert COPY.exists()
    # Not an equality of texts: a difference of a megabyte helps nobody.
    same = COPY.read_text() == declared
    assert same, "docs/openapi.json is not what the routes declare: run scripts/generate-openapi and commit it"


def test_every_reference_leads_somewhere_and_every_operation_has_its_name(declared):
    described = json.loads(declared)
    for reference in set(re.findall(r'"\$ref": "([^"]+)"', declared)):
        _, _, kind, name = reference.split("/")
        assert name in described["components"][kind], reference
    operations = [operation for item in described["paths"].values() for operation in item.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    tags = {tag["name"] for tag in described["tags"]}
    assert all(set(operation["tags"]) <= tags and operation["summary"] for operation in operations)


def test_each_familys_errors_have_its_own_shape(declared):
    described = json.loads(declared)
    schemas = {"native": "Problem", "001": "InstancesProblem", "operations": "OperationsProblem"}
    seen = set()
    for item in described["paths"].values():
        for operation in item.values():
            seen.add(operation["x-family"])
            statuses = {status for status in operation["responses"] if status >= "400"}
            for status in statuses:
                name = operation["responses"][status]["$ref"].rpartition("/")[2]
                content = described["components"]["responses"][name]["content"]["application/json"]
                schema = schemas[operation["x-family"]]
                assert content["schema"] == {"$ref": f"#/components/schemas/{schema}"}, operation["operationId"]
            # Seeds 001 and 003 know no 422.
            assert operation["x-family"] == "native" or "422" not in statuses, operation["operationId"]
    assert {"native", "operations"} <= seen
