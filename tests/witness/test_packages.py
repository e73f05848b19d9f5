"""What the lock promises: any registry will do, and no other bytes."""

import json

import pytest

from tests.witness.javascript import FOLDER, MODULES, require_packages

pytestmark = pytest.mark.witness

LOCK = json.loads((FOLDER / "package-lock.json").read_text())
PACKAGES = {path: entry for path, entry in LOCK["packages"].items() if path}


def test_the_lock_names_hashes_and_no_registry() -> None:
    assert LOCK["lockfileVersion"] == 3
    for path, entry in PACKAGES.items():
        assert entry["integrity"].startswith("sha512-"), path
        assert "resolved" not in entry, path


def test_what_is_installed_is_what_the_lock_names() -> None:
    require_packages()
    named = json.loads((FOLDER / "package.json").read_text())["dependencies"]
    installed = {name: json.loads((MODULES / name / "package.json").read_text())["version"] for name in named}
    assert installed == named == LOCK["packages"][""]["dependencies"]
