from __future__ import annotations

import io
import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from alexnet_jax.data.loader import Reader, evaluation_batches
from alexnet_jax.data.sources.tfds import from_tfds

NO_TEST = "no test split: figures are of validation, which was used for stopping"
SCRIPT = Path(__file__).parents[2] / "scripts" / "prepare_dataset"


class TinyShades(tfds.core.GeneratorBasedBuilder):
    """Grey PNGs whose shade is ten times their number."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = [  # noqa: RUF012 - the library's own form
        tfds.core.BuilderConfig(name=name, description=name)
        for name in ("two_splits", "three_splits", "no_test", "unlabelled", "test_only", "boxes")
    ]
    SIZES = {  # noqa: RUF012
        "two_splits": {"train": 20, "test": 4},
        "three_splits": {"train": 6, "validation": 3, "test": 2, "extra": 5},
        "no_test": {"train": 6, "validation": 3},
        "unlabelled": {"train": 6, "validation": 3, "test": 4},
        "test_only": {"test": 4},
        "boxes": {"train": 2},
    }

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(8, 8, 3), encoding_format="png"),
            "label": tfds.features.ClassLabel(names=["even", "odd"]),
            "mask": tfds.features.Image(shape=(8, 8, 1), encoding_format="png"),
        }
        if self.builder_config.name == "boxes":
            features["objects"] = features.pop("label")
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        sizes = self.SIZES[self.builder_config.name]
        return {split: self._generate_examples(split, size) for split, size in sizes.items()}

    def _generate_examples(self, split, size):
        for number in range(size):
            out = io.BytesIO()
            Image.new("RGB", (8, 8), (10 * number,) * 3).save(out, "PNG")
            hidden = self.builder_config.name == "unlabelled" and split == "test"
            label = "objects" if self.builder_config.name == "boxes" else "label"
            mask = io.BytesIO()
            Image.new("L", (8, 8)).save(mask, "PNG")
            yield (
                number,
                {
                    "image": out.getvalue(),
                    label: -1 if hidden else number % 2,
                    "mask": mask.getvalue(),
                },
            )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("tensorflow_datasets")
    for config in TinyShades.SIZES:
        builder = TinyShades(data_dir=folder, config=config)
        builder.download_and_prepare(file_format="array_record")
    return folder


@pytest.fixture
def offline(monkeypatch):
    def refuse(*_args, **_kwargs):
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def sizes(source) -> dict[str, int]:
    return {name: len(split) for name, split in source.splits.items()}


def test_a_set_is_read_by_name_down_to_the_pixels(prepared, offline):
    source = from_tfds("tiny_shades/three_splits", data_dir=prepared)
    assert source.classes == ("even", "odd") and source.version == "1.2.0"
    assert sizes(source) == {"train": 6, "validation": 3, "test": 2}
    assert source.notes == ("splits not used: extra (5)",)
    assert source.splits["train"][0]["image"].startswith(b"\x89PNG")
    assert source.splits["test"].name(1) == "tiny_shades/three_splits test[1]"
    (batch,) = evaluation_batches(Reader(source.splits["train"], canvas=4), batch_size=6)
    assert sorted(batch["image"][:, 0, 0, 0]) == [0, 10, 20, 30, 40, 50]
    assert (batch["label"] == batch["image"][:, 0, 0, 0] // 10 % 2).all()


def test_validation_is_held_out_of_train(prepared):
    source = from_tfds("tiny_shades/two_splits:1.2.0", data_dir=prepared)
    assert sizes(source) == {"train": 18, "test": 4, "validation": 2}
    held = [source.splits["validation"][index]["label"] for index in range(2)]
    assert sorted(held) == [0, 1]
    assert source.notes == ("validation: 10 % of train, stratified, seed 0",)


def test_a_missing_or_unlabelled_test_split_is_said(prepared):
    assert from_tfds("tiny_shades/no_test", data_dir=prepared).notes == (NO_TEST,)
    unlabelled = from_tfds("tiny_shades/unlabelled", data_dir=prepared)
    assert sizes(unlabelled) == {"train": 6, "validation": 3}
    assert unlabelled.notes == ("the set's test split has no labels and is left out", NO_TEST)


def test_the_folder_of_the_environment_is_honoured(prepared, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared))
    assert len(from_tfds("tiny_shades/no_test").splits["train"]) == 6


def test_reading_takes_neither_the_builder_nor_tensorflow_nor_warns(prepared, own_process):
    source = f"""
import json, sys
from alexnet_jax.data.loader import Reader, evaluation_batches
from alexnet_jax.data.sources.tfds import from_tfds
source = from_tfds("tiny_shades/no_test", data_dir={str(prepared)!r})
(batch,) = evaluation_batches(Reader(source.splits["validation"], canvas=8), batch_size=3)
print(json.dumps([sorted(batch["image"].mean((1, 2, 3)).tolist()), "tensorflow" in sys.modules]))
"""
    assert own_process(source) == [[0, 10, 20], False]


def test_fingerprints_differ_between_sets_and_repeat(prepared):
    found = [
        from_tfds(f"tiny_shades/{config}", data_dir=prepared).fingerprint
        for config in ("no_test", "unlabelled", "two_splits", "no_test")
    ]
    assert len(set(found)) == 3 and found[0] == found[3]


@pytest.mark.parametrize(
    "name", ["cifar10", "imagenet2012", "coco", "nonsense", "cifar10:3.0.2", "oxford_iiit_pet"]
)
def test_what_is_missing_is_said_at_once_with_the_command(name, tmp_path, offline, capsys):
    start = time.perf_counter()
    with pytest.raises(FileNotFoundError) as caught:
        from_tfds(name, data_dir=tmp_path)
    assert time.perf_counter() - start < 1
    assert str(caught.value) == (
        f"{name} is not prepared in {tmp_path}; "
        f"run: scripts/prepare_dataset {name} --data-dir {tmp_path}"
    )
    assert capsys.readouterr().out == ""


def test_a_half_prepared_set_is_missing(tmp_path, offline):
    (tmp_path / "cifar10" / "incomplete.XYZ_3.0.2").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="run: scripts/prepare_dataset cifar10"):
        from_tfds("cifar10", data_dir=tmp_path)


def test_what_has_nothing_to_learn_is_refused_with_its_features(prepared):
    with pytest.raises(ValueError, match=r"expected the features image and label, .* mask, objec"):
        from_tfds("tiny_shades/boxes", data_dir=prepared)


def test_a_set_without_train_is_refused(prepared):
    with pytest.raises(ValueError, match="no train split; it has test"):
        from_tfds("tiny_shades/test_only", data_dir=prepared)


@pytest.mark.parametrize("name", ["tiny_shades/unknown", "tiny_shades:9.0.0"])
def test_an_unknown_config_or_version_is_one_line(name, prepared):
    with pytest.raises((ValueError, FileNotFoundError), match="tiny_shades") as caught:
        from_tfds(name, data_dir=prepared)
    assert "\n" not in str(caught.value)


def test_a_format_for_tensorflow_is_refused_with_the_command(tmp_path):
    builder = TinyShades(data_dir=tmp_path, config="no_test")
    builder.download_and_prepare(file_format="array_record")
    info = Path(builder.data_dir) / "dataset_info.json"
    content = json.loads(info.read_text()) | {"fileFormat": "tfrecord"}
    info.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"holds tfrecord.* scripts/prepare_dataset tiny_shades"):
        from_tfds("tiny_shades/no_test", data_dir=tmp_path)


def prepare(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_the_script_says_what_it_would_do(tmp_path):
    done = prepare("cifar10", "--data-dir", str(tmp_path / "sets"), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"cifar10 into {tmp_path / 'sets'}, as array_record" in done.stdout
    assert "tensorflow-datasets>=" in done.stdout and ".venv-prepare" in done.stdout
    assert not (tmp_path / "sets").exists()


@pytest.mark.parametrize("arguments", [(), ("a b",), ("../x",), ("cifar10", "--nonsense")])
def test_the_script_refuses_what_it_does_not_understand(arguments):
    done = prepare(*arguments, "--dry-run")
    assert done.returncode == 2 and "usage:" in done.stderr
    assert np.all([argument in done.stderr for argument in arguments if argument != "cifar10"])
