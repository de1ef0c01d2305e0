"""`street` as a tensorflow-datasets builder; prepares and reads without TensorFlow.

    Street(config="a", data_dir=folder).download_and_prepare(file_format="array_record")
    tfds.data_source("street/a", split="train", data_dir=folder)

Other counts or another size are one more `StreetConfig`, given as `config`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.data.street.render import CLASSES, VERSION, render
from alexnet_jax.data.street.source import COUNTS, split_seed


@dataclass(kw_only=True)
class StreetConfig(tfds.core.BuilderConfig):
    """`kind` is the configuration of `render`; `counts` are the examples of each split."""

    kind: str
    size: int = 64
    seed: int = 0
    counts: Mapping[str, int] | None = None


class Street(tfds.core.GeneratorBasedBuilder):
    """Rendered street scenes with boxes, masks and joints."""

    VERSION = tfds.core.Version(VERSION)
    RELEASE_NOTES: ClassVar[dict[str, str]] = {
        "1.0.0": "First.",
        "1.1.0": "People are larger in b, their clothes and hair tell more.",
    }
    BUILDER_CONFIGS: ClassVar[list[StreetConfig]] = [
        StreetConfig(name=kind, kind=kind, description=" or ".join(names))
        for kind, names in CLASSES.items()
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        features, size = tfds.features, self.builder_config.size
        names = list(CLASSES[self.builder_config.kind])
        return self.dataset_info_from_configs(
            description="Street scenes rendered with Pillow, a pure function of seed and index.",
            features=features.FeaturesDict(
                {
                    "image": features.Image(shape=(size, size, 3), encoding_format="png"),
                    "label": features.ClassLabel(names=names),
                    "objects": features.Sequence(
                        {
                            "bbox": features.BBoxFeature(),
                            "label": features.ClassLabel(names=names),
                            "ignore": np.bool_,
                        }
                    ),
                    "segmentation": features.Image(
                        shape=(size, size, 1), dtype=np.uint8, encoding_format="png"
                    ),
                    "people": features.Sequence(
                        {
                            "joints": features.Tensor(shape=(len(JOINTS), 2), dtype=np.float32),
                            "visible": features.Tensor(shape=(len(JOINTS),), dtype=np.bool_),
                        }
                    ),
                }
            ),
            supervised_keys=("image", "label"),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        config = self.builder_config
        counts = COUNTS[config.kind] if config.counts is None else config.counts
        return {split: self._generate_examples(split, count) for split, count in counts.items()}

    def _generate_examples(self, split: str, count: int) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        seed = split_seed(config.seed, split)
        for index in range(count):
            yield index, _record(render(config.kind, seed, index, config.size), config.size)


def _record(example: dict[str, Any], size: int) -> dict[str, Any]:
    """What `render` returns, without padding: images as PNG bytes, boxes as shares of the side."""
    objects = [
        {"bbox": tfds.features.BBox(*(box / size).tolist()), "label": int(label), "ignore": ignore}
        for box, label, ignore in zip(
            example["boxes"], example["box_label"], example["box_ignore"], strict=True
        )
        if label >= 0
    ]
    return {
        "image": _png(example["image"]),
        "label": example["label"],
        "objects": objects,
        "segmentation": _png(example["segmentation"]),
        "people": [
            {"joints": joints, "visible": visible}
            for joints, visible in zip(example["joints"], example["joint_visible"], strict=True)
            if joints.any()  # rows of padding are zero
        ],
    }


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
