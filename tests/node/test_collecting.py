"""What strangers leave on a disk is read without following where it points."""

import os
from contextlib import contextmanager

import pytest

from node.collecting import FoundFile, digest_file, find_files, open_file, read_progress


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "outputs"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.bin").write_bytes(b"bb")
    (tmp_path / "secret").write_text("secret")
    return folder


def names(folder):
    return [file.path for file in find_files(folder, most=100)]


def test_plain_files_are_found_at_every_depth(folder):
    assert find_files(folder, most=100) == [FoundFile("a.txt", 1), FoundFile("sub/b.bin", 2)]
    with open_file(folder, "sub/b.bin") as file:
        assert file.read() == b"bb"
    assert digest_file(folder, "a.txt") == "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"


def test_links_lead_nowhere(folder, tmp_path):
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to("..")
    (folder / "loop").symlink_to(".")
    assert names(folder) == ["a.txt", "sub/b.bin"]
    for path in ("link", "up/secret", "loop/a.txt"):
        with pytest.raises(OSError, match=r"."):
            open_file(folder, path)


def test_a_file_that_became_a_link_is_not_followed(folder, tmp_path):
    assert "a.txt" in names(folder)
    (folder / "a.txt").unlink()
    (folder / "a.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match=r"."):
        open_file(folder, "a.txt")
    (folder / "sub").rename(tmp_path / "moved")
    (folder / "sub").symlink_to(tmp_path / "moved")
    with pytest.raises(OSError, match=r"."):
        open_file(folder, "sub/b.bin")


def test_pipes_and_names_that_nobody_should_hold_are_left_out(folder):
    os.mkfifo(folder / "pipe")
    for name in ("new\nline", "bell\a", "back\\slash", "\u202egpj.exe"):
        (folder / name).write_text("x")
    (folder / os.fsdecode(b"not-\xff-utf8")).write_text("x")
    assert names(folder) == ["a.txt", "sub/b.bin"]
    with pytest.raises(OSError, match="plain"):
        open_file(folder, "pipe")


def test_a_deep_tree_ends_and_a_wide_one_says_so(folder):
    deep = folder
    for _ in range(40):
        deep /= "d"
        deep.mkdir()
        (deep / "f").write_text("")
    found = names(folder)
    assert max(path.count("/") for path in found) == 31
    assert len(find_files(folder, most=5)) == 6


def test_an_absent_folder_holds_nothing(tmp_path):
    assert find_files(tmp_path / "none", most=5) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("42", 42),
        (" 0\n", 0),
        ("100", 100),
        ("101", None),
        ("-1", None),
        ("", None),
        ("4e1", None),
        ("٤", None),
        ("9" * 30, None),
    ],
)
def test_progress_is_a_number_or_nothing(tmp_path, text, expected):
    (tmp_path / "progress").write_text(text)
    assert read_progress(tmp_path) == expected


def test_progress_that_is_a_pipe_blocks_nobody(tmp_path):
    os.mkfifo(tmp_path / "progress")
    assert read_progress(tmp_path) is None


def test_of_names_without_end_no_more_are_read_than_show_it(folder, monkeypatch):
    for number in range(200):
        (folder / f"{number}").touch()
    read, scandir = [], os.scandir

    @contextmanager
    def counting(where):
        with scandir(where) as entries:
            yield (read.append(entry.name) or entry for entry in entries)

    monkeypatch.setattr(os, "scandir", counting)
    assert len(find_files(folder, most=5)) == 6
    assert len(read) < 50
