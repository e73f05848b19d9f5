"""What the documents name is there: test functions, test files, pages."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (*(ROOT / "docs").rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md")
)
TESTS = [path for path in (ROOT / "tests").rglob("test_*.py") if "node_modules" not in path.parts]
CODE = re.compile(r"`(test_\w+)(…?)`")
FILES = re.compile(r"`((?:tests/[\w/]+/)?test_\w+\.py)`")
LINKS = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.fixture(scope="module")
def functions() -> set[str]:
    return {name for path in TESTS for name in re.findall(r"def (test_\w+)\(", path.read_text())}


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_that_a_page_names_are_there(page: str, functions: set[str]) -> None:
    text = (ROOT / page).read_text()
    stems = {path.stem for path in TESTS}
    for name, dots in CODE.findall(text):
        known = any(each.startswith(name) for each in functions) if dots else name in functions | stems
        assert known, f"{page} names {name}, which is no test"
    for file in FILES.findall(text):
        known = (ROOT / file).is_file() if "/" in file else Path(file).stem in stems
        assert known, f"{page} names {file}, which is no test file"


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_somewhere(page: str) -> None:
    for link in LINKS.findall((ROOT / page).read_text()):
        if "://" not in link:
            assert ((ROOT / page).parent / link).exists(), f"{page} links to {link}"
