from __future__ import annotations

import json
import zipfile

import pytest
from tests.data.picture_files import jpeg, save

from labels4free.data.images.base import StoreLayout
from labels4free.data.images.classes import ImageClasses, image_classes
from labels4free.data.images.dataset import open_source
from labels4free.data.images.shards import ShardWriter
from labels4free.errors import DataError


def folder(path, names):
    for name in names:
        save(path / name)
    return path


def archive(path, names):
    with zipfile.ZipFile(path, "w") as file:
        for number, name in enumerate(names):
            file.writestr(name, jpeg(number) if name.endswith("g") else "{}")
    return path


def with_labels(path, text):
    (path / "dataset.json").write_text(text)
    return path


@pytest.mark.parametrize("make", [folder, lambda path, names: archive(path.with_suffix(".zip"), names)])
def test_sub_folders_are_classes_by_name(tmp_path, make):
    names = ["dog/1.png", "cat/10.png", "cat/2.png", "dog/more/3.png"]
    source = open_source(make(tmp_path / "images", names))
    found = image_classes(source)
    assert found.names == ("cat", "dog")
    assert [found.names[label] for label in found.labels] == [name.split("/")[0] for name in source.names]


def test_dataset_json_counts_more_than_folders(tmp_path):
    names = ["00000/img00000000.png", "00000/img00000001.png", "00001/img00000002.png"]
    labels = {"labels": [[names[2], 0], [names[0], 2], [names[1], 2], ["not/here.png", 1]]}
    source = open_source(with_labels(folder(tmp_path, names), json.dumps(labels)))
    assert image_classes(source) == ImageClasses(("0", "1", "2"), (2, 2, 0))


@pytest.mark.parametrize(
    ("names", "text", "said"),
    [
        (("a/1.png", "2.png"), None, "has images without a class: put every image into a folder"),
        (("a/1.png", "a/2.png"), None, "has a single class: train without classes"),
        (("1.png", "2.png"), '{"labels": [["1.png", 1]]}', r"has no label for 1 images, such as 2\.png"),
        (("1.png",), '{"labels": null}', "is no file of labels"),
        (("1.png",), '{"labels": [["1.png", -1]]}', "negative numbers"),
        (("1.png",), '{"labels": [["1.png", [0.5]]]}', "is no file of labels"),
        (("1.png",), "[", "is no file of labels"),
    ],
)
def test_what_has_no_classes_is_refused(tmp_path, names, text, said):
    path = folder(tmp_path / "images", names)
    if text is not None:
        with_labels(path, text)
    with pytest.raises(DataError, match=said):
        image_classes(open_source(path))


def test_a_shard_is_no_class(tmp_path):
    writer = ShardWriter(tmp_path, StoreLayout((8,), ".jpg", 10))
    writer.add([jpeg(0)])
    writer.commit()
    writer.finish(b"{}")
    writer.close()
    with pytest.raises(DataError, match="keeps no classes: give a folder or a zip file"):
        image_classes(open_source(next(tmp_path.glob("*.tar"))))
