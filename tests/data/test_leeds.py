"""A folder in Leeds Sports Pose's form: both shapes of joints.mat, and refusals that name."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from alexnet_jax import assemble
from alexnet_jax.data.decode import BadImage, canvas, canvas_points
from alexnet_jax.data.loader import Reader, evaluation_batches, training_batches
from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.data.sources.folder import from_folder
from alexnet_jax.data.sources.leeds import from_leeds, read_joints
from alexnet_jax.tasks.pose import Pose

RNG = np.random.default_rng(0)
NUMBERS = 10 * np.arange(1, 21)  # ten of ... two hundred
HEIGHT, WIDTH = 30, 40
XY = RNG.uniform((1, 1), (WIDTH, HEIGHT), (20, 14, 2))  # MATLAB's, from 1
SEEN = RNG.random((20, 14)) < 0.8
BOTH = ("joints", "joint_visible")


def table(flag=None):
    """[14, 3, N]"""
    flag = SEEN.astype(float) if flag is None else flag
    return np.concatenate([XY, flag[..., None]], axis=-1).transpose(1, 2, 0)


def write(root, joints, **more):
    savemat(root / "joints.mat", {"joints": joints, **more})


@pytest.fixture
def root(tmp_path):
    (tmp_path / "images").mkdir()
    for number in NUMBERS:
        pixels = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"im{number:05d}.png")
    write(tmp_path, table(), image_id=NUMBERS[None])
    return tmp_path


def examples(source):
    """{file's number: example} of all splits."""
    return {
        int(split.name(i)[-9:-4]): split[i]
        for split in source.splits.values()
        for i in range(len(split))
    }


def test_joints_are_read_and_split_by_number(root):
    source = assemble.open_source(str(root), canvas=16, seed=0)
    assert source.joints == JOINTS and source.classes == () and Pose.classes(source) == JOINTS
    assert {s: len(x) for s, x in source.splits.items()} == {
        "train": 16, "validation": 2, "test": 2
    }  # fmt: skip
    assert {source.splits["test"].name(i)[-11:] for i in (0, 1)} == {"im00190.png", "im00200.png"}
    assert source.notes[1] == "test: numbers from 181 on"
    found = examples(source)
    assert sorted(found) == NUMBERS.tolist()
    for row, number in enumerate(NUMBERS):
        joints, visible = found[number]["joints"], found[number]["joint_visible"]
        assert joints.shape == (1, 14, 2) and joints.dtype == np.float32
        np.testing.assert_array_equal(visible[0], SEEN[row])
        np.testing.assert_allclose(joints[0][SEEN[row]], XY[row][SEEN[row], ::-1] - 0.5, rtol=1e-6)
    earlier = from_leeds(root, test_from=101)
    assert len(earlier.splits["test"]) == 10 and earlier.fingerprint == source.fingerprint


def test_the_first_sets_form_tells_what_is_hidden(root):
    """[3, 14, N], whose third row is one where a joint is hidden; pictures by their place."""
    joints, visible, numbers, hidden_row = read_joints(root / "joints.mat")
    write(root, table((~SEEN).astype(float)).transpose(1, 0, 2))
    other, seen, places, other_row = read_joints(root / "joints.mat")
    np.testing.assert_array_equal(other, joints)
    np.testing.assert_array_equal(seen, visible)
    assert (hidden_row, other_row) == (False, True)
    assert numbers.tolist() == NUMBERS.tolist() and places.tolist() == list(range(1, 21))


def test_what_is_not_a_number_is_not_visible(root):
    joints = table()
    joints[3, 0, 5], joints[:, 2, 6] = np.nan, 0
    write(root, joints, image_id=NUMBERS[None])
    source = from_leeds(root)
    found = examples(source)[60]
    assert not found["joint_visible"][0, 3] and np.isfinite(found["joints"]).all()
    assert any("without a visible joint, which do not count: 1" in note for note in source.notes)


def test_the_reader_puts_joints_where_the_canvas_shows_them(root):
    """The middle square of 30 x 40 on a canvas of 15: half the size, 2.5 pixels further left."""
    source = from_leeds(root)
    for memory in (2**20, 0):
        reader = Reader(source.splits["train"], canvas=15, memory=memory, annotations=BOTH)
        (whole,) = evaluation_batches(reader, batch_size=20)
        assert whole["joints"].shape == (20, 1, 14, 2)
        assert not whole["joint_visible"][16:].any() and not whole["valid"][16:].any()
        stream = training_batches(reader, seed=0, position=0, batch_size=8)
        batch = next(stream)
        stream.close()
        for row, index in enumerate(batch["index"]):
            given = source.splits["train"][int(index)]
            expected = given["joints"] / 2 - (0, 2)  # 2.5, at a whole pixel
            np.testing.assert_allclose(batch["joints"][row], expected, rtol=1e-5, atol=1e-5)
            inside = ((expected >= 0) & (expected < 15)).all(axis=-1)
            np.testing.assert_array_equal(
                batch["joint_visible"][row], given["joint_visible"] & inside
            )


@pytest.mark.parametrize("shape", [(44, 60), (61, 40), (33, 200), (20, 20)])
def test_a_marked_pixel_goes_where_its_point_goes(shape):
    """The brightest pixel of the canvas is the one that the point lies in, or its neighbour."""
    y, x = shape[0] // 2 + 3, shape[1] // 2 - 2
    image = np.zeros((*shape, 3), np.uint8)
    image[y - 2 : y + 3, x - 2 : x + 3] = 255
    found = canvas(image, 20)[..., 0].astype(float)
    centre = [(found * (axis + 0.5)).sum() / found.sum() for axis in np.indices((20, 20))]
    point = canvas_points(np.array([y + 0.5, x + 0.5]), shape, 20)
    np.testing.assert_allclose(point, centre, atol=0.1)


def test_a_missing_image_and_a_bad_one_are_named(root):
    (root / "images" / "im00070.png").write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"im00070\.png: not an image"):
        for split in from_leeds(root).splits.values():
            reader = Reader(split, canvas=15, annotations=BOTH)
            list(evaluation_batches(reader, batch_size=20))
    (root / "images" / "im00070.png").unlink()
    said = r"im0070\.jpg or im00070\.jpg, the photograph of picture 7 in joints.mat; 1 of 20"
    with pytest.raises(FileNotFoundError, match=said):
        from_leeds(root)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"joints": table()[:13]}, r"joints has the shape \[13, 3, 20\]; expected \[14, 3 \(x, y"),
        ({"joints": table().transpose(2, 0, 1)}, r"shape \[20, 14, 3\]"),
        ({"joints": "none"}, r"joints has the shape"),
        ({"joints": table(2 * SEEN)}, "joints says 2 for visible; expected 0 or 1"),
        (
            {"joints": table(), "image_id": NUMBERS[:19]},
            r"image_id has the shape \[1, 19\]; joints",
        ),
        ({"joints": table(), "image_id": NUMBERS // 20}, "image_id has 1 2 times"),
        ({"points": table()}, "has no variable joints but points"),
    ],
)
def test_another_joints_mat_is_refused_in_words(root, change, said):
    savemat(root / "joints.mat", change)
    with pytest.raises(ValueError, match=rf"joints\.mat.*{said}"):
        from_leeds(root)


def test_what_is_no_matlab_file_or_no_such_folder_is_refused(root):
    for content in (b"", b"joints", (root / "joints.mat").read_bytes()[:400]):
        (root / "joints.mat").write_bytes(content)
        with pytest.raises(ValueError, match=r"joints\.mat cannot be read as a MATLAB file"):
            from_leeds(root)
    with pytest.raises(ValueError, match=r"0 photographs are left to train .* 20 to test"):
        write(root, table(), image_id=NUMBERS[None])
        from_leeds(root, test_from=1)
    (root / "joints.mat").unlink()
    with pytest.raises(FileNotFoundError, match=r"joints\.mat does not exist; expected ROOT"):
        assemble.open_source(str(root), canvas=15, seed=0)


def test_data_without_joints_are_refused_by_the_task(tmp_path):
    for split in ("train", "val"):
        for kind in "ab":
            (tmp_path / split / kind).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (9, 9)).save(tmp_path / split / kind / f"{i}.png")
    with pytest.raises(ValueError, match=r"has no joints of one person.*street/people"):
        Pose.classes(from_folder(tmp_path))
