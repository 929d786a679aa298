from __future__ import annotations

from pathlib import Path

import pytest
from tests.refusals import refuses

from labels4free.errors import ConfigError
from labels4free.segmenting.photo_files import find_photos


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A folder of empty files; names are relative to it."""
    for name in (
        "in/2.jpg",
        "in/10.jpg",
        "in/deep/a.png",
        "in/.hidden.jpg",
        "in/note.txt",
        "b.jpg",
        "b.png",
        "[x].jpg",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)


def found(*words, out="out"):
    photos, problems = find_photos(words, Path(out))
    return [(p.path.as_posix(), p.target.relative_to(out).as_posix()) for p in photos], problems


def test_files_go_by_their_names(files):
    assert found("b.jpg", "in/2.jpg") == ([("b.jpg", "b.png"), ("in/2.jpg", "2.png")], [])


def test_a_folder_is_all_its_images_in_natural_order(files):
    photos = [("in/2.jpg", "2.png"), ("in/10.jpg", "10.png"), ("in/deep/a.png", "deep/a.png")]
    assert found("in") == (photos, [])


def test_patterns_are_looked_up(files):
    photos = [("in/2.jpg", "2.png"), ("in/10.jpg", "10.png")]
    assert found("in/*.jpg") == (photos, [])
    assert found("in/**/*.[jp][pn]g") == ([*photos, ("in/deep/a.png", "deep/a.png")], [])
    assert found("*/deep/*") == ([("in/deep/a.png", "in/deep/a.png")], [])
    assert found(str(Path.cwd() / "in" / "?.jpg"))[0][0][1] == "2.png"


def test_a_file_with_a_patterns_name_is_a_file(files):
    assert found("[x].jpg") == ([("[x].jpg", "[x].png")], [])


def test_a_photo_named_twice_is_taken_once(files):
    assert found("b.jpg", "*.jpg")[0] == [("b.jpg", "b.png"), ("[x].jpg", "[x].png")]


def test_photos_of_one_name_keep_their_endings(files):
    assert found("b.jpg", "b.png", "in/2.jpg")[0] == [
        ("b.jpg", "b.jpg.png"),
        ("b.png", "b.png.png"),
        ("in/2.jpg", "2.png"),
    ]


def test_names_that_stand_for_nothing_are_listed(files, tmp_path):
    (tmp_path / "empty").mkdir()
    photos, problems = found("none.jpg", "empty", "*.webp", "b.jpg")
    assert photos == [("b.jpg", "b.png")]
    assert [p.split(":")[0] for p in problems] == [
        "There is no image at none.jpg.",
        "empty holds no readable image (no image files in it)",
        "No file is called like *.webp.",
    ]


def test_earlier_pictures_below_the_folder_are_no_photos(files, tmp_path):
    (tmp_path / "in" / "out").mkdir()
    (tmp_path / "in" / "out" / "2.png").touch()
    assert [path for path, _ in found("in", out="in/out")[0]] == ["in/2.jpg", "in/10.jpg", "in/deep/a.png"]


def test_no_photo_is_replaced(files):
    with pytest.raises(ConfigError, match=r"in/deep/a\.png would replace a photo; choose another --out"):
        find_photos(["in/deep/a.png"], Path("in/deep"))


def test_photos_that_would_become_one_file_are_refused(files, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "2.jpg").touch()
    with pytest.raises(ConfigError, match=r"in/2\.jpg and other/2\.jpg would both become out/2\.jpg\.png"):
        find_photos(["in/2.jpg", "other/2.jpg"], Path("out"))


def test_the_folder_of_the_photos_is_no_place_for_pictures(files):
    refuses(ConfigError, "--out is the folder of the photos, in: ", find_photos, ["b.jpg", "in"], Path("in"))


def test_a_folder_with_nothing_but_earlier_pictures_is_listed(files, tmp_path):
    (tmp_path / "new" / "out").mkdir(parents=True)
    (tmp_path / "new" / "out" / "2.png").touch()
    assert found("new", out="new/out") == ([], ["new holds no photos but the pictures in new/out."])


def test_pictures_may_go_above_their_photos(files):
    assert found("in/deep", out="in") == ([("in/deep/a.png", "a.png")], [])
