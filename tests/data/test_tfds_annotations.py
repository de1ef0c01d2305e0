"""Boxes, masks and joints of prepared sets that have the features of the real ones."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from alexnet_jax.config import Config, Input, Model
from alexnet_jax.data.decode import BadImage
from alexnet_jax.data.loader import Reader, evaluation_batches, training_batches
from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.data.sources.tfds import from_tfds
from alexnet_jax.data.sources.voc import from_voc
from alexnet_jax.data.window import VOID
from alexnet_jax.parts import make_parts
from alexnet_jax.tasks.classification import Classification
from alexnet_jax.tasks.detection import Detection
from alexnet_jax.tasks.pose import Pose
from alexnet_jax.tasks.segmentation import Segmentation

RNG = np.random.default_rng(0)
ANNOTATIONS = ("boxes", "box_label", "box_ignore")
NO_TEST = "no test split: figures are of validation, which was used for stopping"


def prepare(folder, name, features, splits, names=None):
    """A set `name/config` on disk; `splits` are {split: examples}. `names` are given to the classes
    of objects while examples are made, as coco does."""

    class Made(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            return tfds.core.DatasetInfo(builder=self, features=features, disable_shuffling=True)

        def _split_generators(self, dl_manager):
            return {split: self._generate_examples(given) for split, given in splits.items()}

        def _generate_examples(self, given):
            if names:
                self.info.features["objects"]["label"].names = names
            yield from enumerate(given)

    Made.name, _, config = name.partition("/")
    if config:
        Made.BUILDER_CONFIGS = [tfds.core.BuilderConfig(name=config, description=config)]
    Made(data_dir=folder).download_and_prepare(file_format="array_record")
    return folder


def features_of(name, tmp_path):
    """Those of the real set, told by the code that prepares it."""
    return tfds.builder(name, data_dir=tmp_path / "none").info.features


def png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return out.getvalue()


def picture(height, width):
    return png(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))


def box(ymin, xmin, ymax, xmax):
    return tfds.features.BBox(*map(float, (ymin, xmin, ymax, xmax)))


# Two pictures of odd sizes and one without objects: (name, (xmin, ymin, xmax, ymax), difficult).
SCENES = {
    "train": [
        (37, 53, [("dog", (3, 5, 31, 20), 0), ("cat", (20, 1, 53, 37), 1)]),
        (333, 500, [("person", (1, 1, 1, 1), 0), ("person", (77, 19, 499, 331), 0)]),
        (9, 14, []),
    ],
    "validation": [(211, 97, [("cat", (9, 13, 55, 200), 0)])],
    "test": [(41, 43, [("dog", (2, 2, 43, 41), 0)])],
}


@pytest.fixture
def voc(tmp_path):
    """The same pictures and boxes as a prepared set, made as tfds makes it, and as a folder."""
    splits, root = {}, tmp_path / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    for split, scenes in SCENES.items():
        splits[split] = []
        for number, (height, width, objects) in enumerate(scenes):
            image, name = picture(height, width), f"{split}{number}"
            said = [
                {
                    "label": kind,
                    "pose": "left",
                    "bbox": box(y0 / height, x0 / width, y1 / height, x1 / width),
                    "is_truncated": False,
                    "is_difficult": bool(difficult),
                }
                for kind, (x0, y0, x1, y1), difficult in objects
            ]
            kinds = sorted({kind for kind, _, _ in objects})
            splits[split].append(
                {
                    "image": image,
                    "image/filename": f"{name}.jpg",
                    "objects": said,
                    "labels": kinds,
                    "labels_no_difficult": kinds,
                }
            )
            (root / "JPEGImages" / f"{name}.png").write_bytes(image)
            written = "".join(
                f"<object><name>{kind}</name><difficult>{difficult}</difficult><bndbox><xmin>{x0}"
                f"</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
                for kind, (x0, y0, x1, y1), difficult in objects
            )
            size = f"<size><width>{width}</width><height>{height}</height></size>"
            (root / "Annotations" / f"{name}.xml").write_text(
                f"<annotation>{size}{written}</annotation>"
            )
        listed = "".join(f"{split}{number}\n" for number in range(len(scenes)))
        (root / "ImageSets" / "Main" / f"{split}.txt").write_text(listed)
    features = features_of("voc/2007", tmp_path)
    (root / "classes.txt").write_text("\n".join(features["objects"]["label"].names))
    prepare(tmp_path / "sets", "voc/2007", features, splits)
    return from_tfds("voc/2007", data_dir=tmp_path / "sets"), from_voc(root)


def test_boxes_are_those_of_a_voc_folder_to_the_bit(voc):
    prepared, folder = voc
    assert Detection.classes(prepared) == Detection.classes(folder)
    assert prepared.box_classes[:2] == ("aeroplane", "bicycle") and len(prepared.box_classes) == 20
    assert prepared.classes == prepared.pixel_classes == prepared.joints == ()
    assert prepared.splits["train"].name(1) == "voc/2007 train[1]"
    example = prepared.splits["train"][0]  # the kit counts from 1, and the last pixel is inside
    assert example["boxes"].tolist() == [[4, 2, 20, 31], [0, 19, 37, 53]]
    assert [prepared.box_classes[k] for k in example["box_label"]] == ["dog", "cat"]
    assert example["box_ignore"].tolist() == [False, True]
    assert prepared.splits["train"][1]["boxes"].tolist() == [[18, 76, 331, 499]]
    assert prepared.splits["train"][2]["boxes"].shape == (0, 4)
    for split in ("train", "validation", "test"):
        ours, theirs = (
            Reader(source.splits[split], canvas=20, annotations=ANNOTATIONS) for source in voc
        )
        for draw in (
            lambda reader: evaluation_batches(reader, batch_size=4),
            lambda reader: training_batches(reader, seed=1, position=3, batch_size=4),
        ):
            mine, other = next(draw(ours)), next(draw(theirs))
            assert mine.keys() == other.keys()
            for key, values in mine.items():
                np.testing.assert_array_equal(values, other[key], err_msg=f"{split} {key}")


@pytest.fixture
def coco(tmp_path):
    """Its features as the builder has them, which only TensorFlow can construct."""
    objects = {
        "id": np.int64,
        "area": np.int64,
        "bbox": tfds.features.BBoxFeature(),
        "label": tfds.features.ClassLabel(num_classes=2),
        "is_crowd": np.bool_,
    }
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(encoding_format="jpeg"),
            "image/filename": tfds.features.Text(),
            "image/id": np.int64,
            "objects": tfds.features.Sequence(objects),
        }
    )

    def example(*objects, image=None):
        said = [
            {"id": i, "area": 1, "bbox": bbox, "label": kind, "is_crowd": crowd}
            for i, (kind, bbox, crowd) in enumerate(objects)
        ]
        image = picture(20, 40) if image is None else image
        return {"image": image, "image/filename": "x.jpg", "image/id": 7, "objects": said}

    def make(train=None):
        given = {
            "train": train or [example(("bus", box(0.25, 0.05, 0.5, 0.3), False)), example()],
            "validation": [
                example(),
                example(
                    ("dog", box(0, 0.0025, 1, 1), True), ("dog", box(0.1, 0.1, 0.1, 0.2), False)
                ),
            ],
            "test": [example()] * 3,
        }
        return from_tfds(
            "coco/2017",
            data_dir=prepare(tmp_path, "coco/2017", features, given, names=["bus", "dog"]),
        )

    make.example = example
    return make


def test_boxes_as_shares_of_the_image_become_pixels(coco):
    source = coco()
    assert Detection.classes(source) == ("bus", "dog")
    assert {name: len(split) for name, split in source.splits.items()} == {
        "train": 2,
        "validation": 2,
    }
    assert source.notes == ("the set's test split has no boxes and is left out", NO_TEST)
    first = source.splits["train"][0]
    assert first["boxes"].dtype == np.float32 and first["boxes"].tolist() == [[5, 2, 10, 12]]
    crowd = source.splits["validation"][1]  # the second box has no area
    np.testing.assert_array_equal(crowd["boxes"], np.float32([[0, 0.1, 20, 40]]))
    assert crowd["box_label"].tolist() == [1] and crowd["box_ignore"].tolist() == [True]


def test_a_corrupt_example_is_named(coco):
    bad = coco.example(("dog", box(0, 0, 1, 1), False), image=picture(20, 40)[:-60])
    source = coco(train=[coco.example(), bad])
    reader = Reader(source.splits["train"], canvas=8, annotations=ANNOTATIONS)
    assert list(reader.bad) == ["coco/2017 train[1]"]
    with pytest.raises(BadImage, match=r"^coco/2017 train\[1\]: "):
        source.splits["train"][1]


def trimap(values):
    return png(np.array(values, np.uint8))


@pytest.fixture
def pets(tmp_path):
    def example(number, values):
        return {
            "image": picture(4, 6),
            "label": number % 2,
            "species": number % 2,
            "file_name": f"{number}.jpg",
            "segmentation_mask": trimap(values),
            "head_bbox": box(0, 0, 0, 0),
        }

    values = np.resize([1, 1, 2, 3], (4, 6))
    train = [example(number, values) for number in range(20)]
    wrong = example(1, np.resize([1, 2, 3, 4], (4, 6)))
    small = example(1, np.resize([1, 2], (4, 5)))
    given = {"train": train, "test": [example(0, values), wrong, small]}
    features = features_of("oxford_iiit_pet", tmp_path)
    return from_tfds(
        "oxford_iiit_pet", data_dir=prepare(tmp_path, "oxford_iiit_pet", features, given)
    )


def test_a_trimap_becomes_background_pet_and_void(pets):
    assert Segmentation.classes(pets) == ("background", "pet")
    assert Classification.classes(pets)[:2] == ("Abyssinian", "american_bulldog")
    assert len(pets.classes) == 37
    assert pets.notes == ("validation: 10 % of train, stratified, seed 0",)
    example = pets.splits["test"][0]
    assert example["label"] == 0 and example["segmentation"].dtype == np.uint8
    np.testing.assert_array_equal(example["segmentation"], np.resize([1, 1, 0, VOID], (4, 6)))
    reader = Reader(pets.splits["validation"], canvas=4, annotations=("segmentation",))
    (batch,) = evaluation_batches(reader, batch_size=2)
    np.testing.assert_array_equal(batch["segmentation"][0], example["segmentation"][:, 1:5])


def test_a_mask_with_other_values_or_of_another_size_is_named(pets):
    assert Reader(pets.splits["test"], canvas=4, annotations=("segmentation",)).bad == {
        "oxford_iiit_pet test[1]": "segmentation_mask: segmentation has the value 4, which is none "
        "of 1, 2, 3 (1 such values in all)",
        "oxford_iiit_pet test[2]": "segmentation is 5 x 4, its image 6 x 4; a mask has a value for "
        "every pixel",
    }


def test_what_a_task_does_not_ask_for_is_not_decoded(pets, tmp_path):
    """A mask that cannot be read is nothing to a classifier."""
    config = Config(
        data="oxford_iiit_pet",
        batch_size=8,
        model=Model(width=0.1),
        input=Input(size=32, data_dir=str(tmp_path)),
    )
    source = make_parts(config).source
    assert source.splits["test"][1].keys() == {"image", "label"}
    assert Reader(source.splits["test"], canvas=4).bad == {}
    assert len(Reader(pets.splits["test"], canvas=4).bad) == 1
    # The set is the same whatever is asked of it.
    assert source.fingerprint == pets.fingerprint and source.pixel_classes == pets.pixel_classes
    held, all_of_it = (one.splits["validation"] for one in (source, pets))
    assert held.rows.tolist() == all_of_it.rows.tolist()


@pytest.fixture
def flic(tmp_path):
    """29 joints a picture, as its authors order them: the left shoulder, elbow, wrist, ..."""
    nothing = [math.nan] * 29

    def example(x, y):
        return {
            "image": png(np.zeros((480, 720, 3), np.uint8)),
            "poselet_hit_idx": [3, 1],
            "moviename": "a-movie",
            "xcoords": x,
            "ycoords": y,
            "currframe": 7.0,
            "torsobox": box(0.1, 0.1, 0.5, 0.5),
        }

    x, y = list(nothing), list(nothing)
    x[:7], y[:7] = [436.5, 446.5, 456.5, 265.5, 277.5, 380.5, 434.5], [*range(195, 201), 370]
    x[9], y[9] = 325.5, 386.5
    x[12], y[12] = 400.5, 129.5  # an eye, which is none of ours
    x[1], y[2] = -1.0, -1.0  # an elbow and a wrist that nobody saw
    x[4] = 60.5  # an elbow beside the square in the middle
    given = {"train": [example(x, y)] * 10, "test": [example(nothing, nothing), example(x[:3], y)]}
    features = features_of("flic/small", tmp_path)
    return from_tfds("flic/small", data_dir=prepare(tmp_path, "flic/small", features, given))


def test_joints_are_found_among_the_sets_own(flic):
    assert Pose.classes(flic) == JOINTS and flic.classes == ()
    assert flic.notes == ("validation: 10 % of train, seed 0",)
    example = flic.splits["train"][0]
    assert example["joints"].dtype == np.float32 and example["joints"].shape == (1, 14, 2)
    assert example["joint_visible"].shape == (1, 14)
    told = {
        joint: tuple(map(float, yx))
        for joint, yx, seen in zip(
            JOINTS, example["joints"][0], example["joint_visible"][0], strict=True
        )
        if seen
    }
    assert told == {  # (y, x) in pixels from 0, where the set counts from 1
        "right wrist": (199.5, 380),
        "right elbow": (198.5, 277 - 217),
        "right shoulder": (197.5, 265),
        "left shoulder": (194.5, 436),
        "right hip": (386, 325),
        "left hip": (369.5, 434),
    }
    assert np.isfinite(example["joints"]).all()
    assert not flic.splits["test"][0]["joint_visible"].any()
    reader = Reader(
        flic.splits["train"], canvas=240, annotations=("joints", "joint_visible"), memory=0
    )
    (batch,) = evaluation_batches(reader, batch_size=9)
    right_hip, elbow = JOINTS.index("right hip"), JOINTS.index("right elbow")
    # 720 x 480 becomes 360 x 240, of which the columns 60 to 300 are seen.
    assert batch["joints"][0, 0, right_hip].tolist() == [193, 325 / 2 - 60]
    assert batch["joint_visible"][0, 0, right_hip] and not batch["joint_visible"][0, 0, elbow]


def test_too_few_joints_are_named(flic):
    with pytest.raises(BadImage, match=r"^flic/small test\[1\]: 3 xcoords and 29 ycoords"):
        flic.splits["test"][1]


def test_what_a_set_lacks_is_refused(pets, flic):
    for task, source, said in (
        (Detection, pets, "oxford_iiit_pet has no boxes"),
        (Pose, pets, "oxford_iiit_pet has no joints"),
        (Segmentation, flic, "flic/small has no masks"),
        (Classification, flic, "flic/small has no label for each image.* --task pose$"),
    ):
        with pytest.raises(ValueError, match=said):
            task.classes(source)
