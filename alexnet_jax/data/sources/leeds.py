"""A folder of photographs of one person each, with their joints, in Leeds Sports Pose's form.

    ROOT/joints.mat   ROOT/images/im0001.jpg ...

`joints` is [14, 3, N] as in the extended set (Johnson and Everingham 2011), whose third column says
which joints are visible, or [3, 14, N] as in the first one (2010), whose third row says which are
hidden; x and y count pixels from 1. Picture i of N is that of number `image_id`[i], or i + 1 where
the file has no `image_id`. What is not visible, or not a number, does not count.
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from alexnet_jax.data.skeleton import JOINTS
from alexnet_jax.data.sources.base import Source, Split, Subset, hold_out
from alexnet_jax.data.sources.folder import EXTENSIONS

FILE, IMAGES = "joints.mat", "images"
LAYOUT = f"expected ROOT/{FILE} and ROOT/{IMAGES}/im0001.jpg, im0002.jpg, ..."
SHAPES = f"[{len(JOINTS)}, 3 (x, y, visible), N] or [3 (x, y, hidden), {len(JOINTS)}, N]"


@dataclass(frozen=True)
class PoseSplit:
    """Photographs, read when asked for; joints float32 [N, 14, 2] (y, x), visible bool [N, 14]."""

    files: tuple[Path, ...]
    joints: np.ndarray
    visible: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {
            "image": self.files[index].read_bytes(),
            "joints": self.joints[index][None],
            "joint_visible": self.visible[index][None],
        }

    def name(self, index: int) -> str:
        return str(self.files[index])


def is_leeds_folder(root: Path) -> bool:
    """Whether a path is meant to be such a folder."""
    return (root / FILE).is_file() or any((root / IMAGES).glob("im[0-9]*"))


def from_leeds(
    path: str | os.PathLike[str],
    *,
    test_from: int | None = None,
    fraction: float = 0.1,
    seed: int = 0,
) -> Source:
    """The photographs below `path`, in the order of joints.mat.

    The fingerprint covers the joints, and the names and sizes of the photographs.

    Args:
        test_from: the first number of the test split. By default 1001 of the first set's 2000, as
            its makers split it, else the last tenth of the numbers: from 9001 of 10,000.
        fraction, seed: so much of the rest is held out for validation.

    Raises:
        FileNotFoundError: no joints.mat, no image for one of its rows; it is named.
        ValueError: a joints.mat that cannot be read or has another form; the field is named.
    """
    root = Path(path)
    joints, visible, numbers, hidden_row = read_joints(root / FILE)
    files, unused = _images(root / IMAGES, numbers)
    if test_from is None:
        last = int(numbers.max())
        test_from = 1001 if hidden_row and last == 2000 else last - last // 10 + 1
    everything = PoseSplit(files, joints, visible)
    test = np.flatnonzero(numbers >= test_from)
    rest = Subset(everything, np.flatnonzero(numbers < test_from))
    if not len(test) or len(rest) < 2:
        raise ValueError(
            f"{root}: with test_from {test_from}, {len(rest)} photographs are left to train and "
            f"validate on and {len(test)} to test on; give a number that leaves two and one"
        )
    held, note = hold_out(rest, None, fraction, seed)
    splits: dict[str, Split] = {**held, "test": Subset(everything, test)}
    notes = [note, f"test: numbers from {test_from} on"]
    if unused:
        notes.append(f"images without a row in {FILE}: {unused}")
    if without := int((~visible.any(axis=1)).sum()):
        notes.append(f"photographs without a visible joint, which do not count: {without}")
    digest = hashlib.sha256(joints.tobytes() + visible.tobytes())
    for file in files:
        digest.update(b"%s\0%d\n" % (os.fsencode(file.name), file.stat().st_size))
    return Source(
        name=root.resolve().name,
        version="0",
        fingerprint=digest.hexdigest(),
        classes=(),
        splits=splits,
        notes=tuple(notes),
        joints=JOINTS,
    )


def read_joints(file: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray, bool]:
    """(joints float32 [N, 14, 2] (y, x) in pixels, visible bool [N, 14], numbers int64 [N], whether
    the third row tells the hidden joints) of a joints.mat. Joints not visible are zero.

    Raises FileNotFoundError and ValueError as `from_leeds`.
    """
    if not file.is_file():
        raise FileNotFoundError(f"{file} does not exist; {LAYOUT}")
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ImportError(
            f"{file} is read by scipy, which is missing: pip install 'alexnet_jax[data]'"
        ) from error
    try:
        found = loadmat(file)
    except Exception as error:  # of many kinds: damage, MATLAB's form 7.3, text
        raise ValueError(
            f"{file} cannot be read as a MATLAB file up to version 7.2: {error}"
        ) from None
    if "joints" not in found:
        has = ", ".join(name for name in found if not name.startswith("__"))
        raise ValueError(f"{file} has no variable joints but {has or 'none'}; expected {SHAPES}")
    table = found["joints"]
    table = table[..., None] if table.ndim == 2 else table  # MATLAB drops a last axis of one
    if table.ndim != 3 or table.shape[:2] not in ((len(JOINTS), 3), (3, len(JOINTS))):
        raise ValueError(f"{file}: joints has the shape {list(table.shape)}; expected {SHAPES}")
    if table.dtype.kind not in "fiu" or not table.size:
        raise ValueError(f"{file}: joints has {table.size} values of type {table.dtype}")
    hidden_row = table.shape[0] == 3
    x, y, flag = np.moveaxis(table, (0 if hidden_row else 1), 0).astype(np.float64)
    told = np.isfinite(x) & np.isfinite(y) & np.isfinite(flag)
    if not np.isin(flag[told], (0, 1)).all():
        wrong = flag[told][~np.isin(flag[told], (0, 1))][0]
        raise ValueError(f"{file}: joints says {wrong:g} for visible; expected 0 or 1")
    visible = told & (flag == (0 if hidden_row else 1))
    joints = np.where(visible[..., None], np.stack([y, x], axis=-1) - 0.5, 0.0)
    numbers = _numbers(file, found.get("image_id"), table.shape[2])
    return joints.swapaxes(0, 1).astype(np.float32), visible.T.copy(), numbers, hidden_row


def _numbers(file: Path, given: Any, count: int) -> np.ndarray:
    """int64 [count]: the pictures' numbers, each once."""
    if given is None:
        return np.arange(1, count + 1)
    numbers = np.ravel(given)
    if numbers.shape != (count,) or numbers.dtype.kind not in "fiu":
        raise ValueError(
            f"{file}: image_id has the shape {list(np.shape(given))}; joints has {count} pictures"
        )
    numbers, times = np.unique(numbers.astype(np.int64), return_counts=True)
    if times.max() > 1:
        raise ValueError(f"{file}: image_id has {numbers[times.argmax()]} {times.max()} times")
    return np.ravel(given).astype(np.int64)


def _images(folder: Path, numbers: np.ndarray) -> tuple[tuple[Path, ...], int]:
    """The file of each number, and how many files have none."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} does not exist; {LAYOUT}")
    found: dict[int, Path] = {}
    for file in sorted(folder.iterdir()):
        match = re.fullmatch(r"im0*(\d+)", file.stem)
        if match and file.suffix.lower() in EXTENSIONS:
            other = found.setdefault(int(match[1]), file)
            if other != file:
                raise ValueError(f"{other} and {file} are both number {match[1]}; keep one")
    if lacking := [row for row, number in enumerate(numbers) if int(number) not in found]:
        number = numbers[lacking[0]]
        raise FileNotFoundError(
            f"{folder} has no im{number:04d}.jpg or im{number:05d}.jpg, the photograph of picture "
            f"{lacking[0] + 1} in {FILE}; {len(lacking)} of {len(numbers)} are missing"
        )
    return tuple(found[int(number)] for number in numbers), len(found) - len(numbers)
