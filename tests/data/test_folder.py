from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alexnet_jax.data.loader import Reader, evaluation_batches
from alexnet_jax.data.sources.base import Split
from alexnet_jax.data.sources.folder import from_folder

NO_TEST = "no test split: figures are of validation, which was used for stopping"


def make(root: Path, *files: str) -> Path:
    """One small image a file, each of another shade; other files hold a word."""
    for number, file in enumerate(files):
        path = root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix.lower() in (".txt", ".ds_store", ""):
            path.write_text("words")
        else:
            kind = {".jpg": "JPEG", ".jpeg": "JPEG"}.get(path.suffix.lower())
            Image.new("RGB", (6, 5), (10 * number, 0, 0)).save(path, kind)
    return root


def listed(split: Split, root: Path) -> list[tuple[str, int]]:
    return [
        (Path(split.name(index)).relative_to(root).as_posix(), split[index]["label"])
        for index in range(len(split))
    ]


@pytest.mark.parametrize("validation", ["val", "validation", "valid", "dev", "Val"])
def test_layout_with_all_splits(tmp_path, validation):
    make(
        tmp_path,
        "train/dog/2.jpg",
        "train/dog/10.PNG",
        "train/cat/a.jpeg",
        f"{validation}/cat/x.webp",
        "test/cat/y.bmp",
        "test/dog/z.GIF",
    )
    source = from_folder(tmp_path)
    assert source.classes == ("cat", "dog") and source.notes == ()
    assert listed(source.splits["train"], tmp_path) == [
        ("train/cat/a.jpeg", 0),
        ("train/dog/10.PNG", 1),
        ("train/dog/2.jpg", 1),
    ]
    assert listed(source.splits["validation"], tmp_path) == [(f"{validation}/cat/x.webp", 0)]
    assert [label for _, label in listed(source.splits["test"], tmp_path)] == [0, 1]
    data = source.splits["train"][1]["image"]
    assert data == (tmp_path / "train/dog/10.PNG").read_bytes()


@pytest.mark.parametrize("prefix", ["train/", ""])
def test_validation_is_held_out_of_train(tmp_path, prefix):
    make(tmp_path, *(f"{prefix}{name}/{i}.png" for name in ("a", "b") for i in range(20)))
    source = from_folder(tmp_path, seed=5)
    train, validation = (listed(source.splits[s], tmp_path) for s in ("train", "validation"))
    assert [label for _, label in validation] == [0, 0, 1, 1]
    assert len(set(train) | set(validation)) == 40
    assert source.notes == ("validation: 10 % of train, stratified, seed 5", NO_TEST)


def test_names_with_spaces_and_letters_of_all_kinds_down_to_the_pixels(tmp_path):
    make(tmp_path, "train/Straße 1/größe ä.jpg", "train/猫/写真 2.jpg", "val/猫/é.png")
    source = from_folder(tmp_path)
    assert source.classes == ("Straße 1", "猫")
    (batch,) = evaluation_batches(Reader(source.splits["train"], canvas=4), batch_size=2)
    assert batch["label"].tolist() == [0, 1] and batch["valid"].all()
    assert np.allclose(batch["image"][:, 0, 0, 0], [0, 10], atol=3)
    assert source.splits["validation"].name(0).endswith("é.png")


def test_hidden_files_are_passed_over_and_others_mentioned(tmp_path):
    make(
        tmp_path,
        "train/.DS_Store",
        "train/a/.DS_Store",
        "train/a/._1.jpg",
        "train/a/1.jpg",
        "train/a/more/2.jpg",
        "train/a/notes.txt",
        "train/b/1.jpg",
        "train/.cache/1.jpg",
        "val/a/1.jpg",
        "README.txt",
    )
    source = from_folder(tmp_path)
    assert [name for name, _ in listed(source.splits["train"], tmp_path)] == [
        "train/a/1.jpg",
        "train/a/more/2.jpg",
        "train/b/1.jpg",
    ]
    assert source.notes == (NO_TEST, "ignored, not images: 2 (README.txt, train/a/notes.txt)")


def test_links_are_followed_and_may_form_loops(tmp_path):
    make(tmp_path, "elsewhere/1.jpg", "set/train/b/1.jpg", "set/val/b/1.jpg")
    (tmp_path / "set/train/a").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/loop").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set/train/b/self").symlink_to(".")
    (tmp_path / "set/train/b/2.jpg").symlink_to("1.jpg")
    assert listed(from_folder(tmp_path / "set").splits["train"], tmp_path / "set") == [
        ("train/a/1.jpg", 0),
        ("train/b/1.jpg", 1),
        ("train/b/2.jpg", 1),
    ]


def test_fingerprint_survives_copying_and_notices_changes(tmp_path):
    first = make(tmp_path / "one", "train/a/1.jpg", "train/b/2.png", "val/a/3.jpg")
    fingerprint = from_folder(first).fingerprint
    second = tmp_path / "two"
    shutil.copytree(first, second, copy_function=shutil.copyfile)
    assert from_folder(second).fingerprint == fingerprint
    os.rename(second / "val/a/3.jpg", second / "val/a/4.jpg")
    renamed = from_folder(second).fingerprint
    (second / "train/a/1.jpg").write_bytes(b"other")
    assert len({fingerprint, renamed, from_folder(second).fingerprint}) == 3


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["train/a/1.jpg", "train/b/1.txt"], r"train/b: no images in this class folder"),
        (["train/a/1.jpg", "train/b/.DS_Store"], r"train/b: no images in this class folder"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/x.txt"], r"val/a: no images"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/c/1.jpg"], r"val/c: train has no class 'c'.*a, b"),
        (["train/a/1.jpg", "train/b/1.jpg", "test/B/1.jpg"], r"test/B: train has no class 'B'"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/x.txt"], r"val: no images"),
        (["train/a/1.jpg", "train/b/1.jpg", "val/a/1.jpg", "dev/a/1.jpg"], "dev and val are both"),
        (["val/a/1.jpg", "val/b/1.jpg"], r"no train folder but val; expected ROOT/train/CLASS"),
        (["1.jpg", "2.jpg"], r"no train folder but 1\.jpg, 2\.jpg; expected"),
        (["train/1.jpg", "train/2.jpg"], r"train: class folders: none"),
        (["vehicles/train/a/1.jpg"], r"class folders: vehicles; a classifier needs two"),
    ],
)
def test_other_layouts_are_refused_by_name(tmp_path, files, message):
    with pytest.raises(ValueError, match=message):
        from_folder(make(tmp_path, *files))


def test_a_link_to_nothing_is_named(tmp_path):
    make(tmp_path, "train/a/1.jpg", "train/b/1.jpg")
    (tmp_path / "train/b/2.jpg").symlink_to("gone.jpg")
    with pytest.raises(ValueError, match=r"train/b/2\.jpg: a link to nothing"):
        from_folder(tmp_path)


def test_what_is_no_folder_is_said(tmp_path):
    make(tmp_path, "photos/a/1.jpg", "list.txt")
    (tmp_path / "photos.zip").write_bytes(b"PK")
    with pytest.raises(FileNotFoundError, match=r"pets does not exist.* has list\.txt, photos, "):
        from_folder(tmp_path / "pets")
    with pytest.raises(NotADirectoryError, match=r"photos\.zip is an archive: unpack it"):
        from_folder(tmp_path / "photos.zip")
    with pytest.raises(NotADirectoryError, match=r"list\.txt is a file"):
        from_folder(tmp_path / "list.txt")


def test_real_photographs_of_a_data_folder():
    data = os.environ.get("ALEXNET_JAX_DATA")
    if not data:
        pytest.skip("ALEXNET_JAX_DATA names no folder with real data")
    source = from_folder(Path(data) / "vehicles_A_car_bus")
    reader = Reader(source.splits["train"], canvas=64)
    seen = sum(int(batch["valid"].sum()) for batch in evaluation_batches(reader, batch_size=32))
    assert source.classes == ("bus", "car") and not reader.bad and seen == len(reader)
