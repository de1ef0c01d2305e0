"""What the experiment on sharing says of rows made by hand, and that it runs."""

from __future__ import annotations

import json

import multi_task
import pytest
from matplotlib.figure import Figure

from alexnet_jax.data.street.source import COUNTS

TWO = multi_task.Options(seeds=2)
COSTS = {
    "detection": (200, 40.0, 10.0),
    "segmentation": (300, 60.0, 20.0),
    "detection+segmentation": (400, 75.0, 24.0),
}


def row(task, seed, diverged_at=None, **measures):
    """A network's row; its costs are those of the table above."""
    costs = dict(zip(multi_task.COSTS, COSTS[task], strict=True))
    case = {"task": task, "seed": seed, "diverged_at": diverged_at}
    return {**case, **({} if diverged_at else {**measures, **costs})}


def rows(*, ap=(0.74, 0.72), iou=(0.52, 0.49), **more):
    return [
        *(row("detection", i, **{"test/ap50": x}) for i, x in enumerate((0.70, 0.69))),
        *(row("segmentation", i, **{"test/mean_iou": x}) for i, x in enumerate((0.50, 0.51))),
        *(
            row(
                "detection+segmentation",
                i,
                **{"test/detection/ap50": a, "test/segmentation/mean_iou": b},
                **more,
            )
            for i, (a, b) in enumerate(zip(ap, iou, strict=True))
        ),
    ]


def test_what_sharing_gains_and_costs_is_told_pair_by_pair():
    title, answer, figure, sections = multi_task.page(TWO, rows(), 900)
    assert title.endswith("?") and isinstance(figure, Figure)
    assert answer == (
        "One network for both tasks against one for each, after as many updates: AP50 3.5 points "
        "more (3.0 to 4.0, n = 2); mean IoU no difference shown (+0.0 points, -2.0 to 2.0, n = 2). "
        "It has 80 % of the parameters of the two, an update takes 75 % of the time of theirs, a "
        "forward pass 80 %."
    )
    page = "\n".join(sections)
    assert "| detection | 69.5 % (69.0 to 70.0) |  | 200 | 40.0 (40.0 to 40.0) | 10.0" in page
    shared = "| detection and segmentation | 73.0 % (72.0 to 74.0) | 50.5 % (49.0 to 52.0) | 400 |"
    assert shared in page
    assert "| one network each |  |  | 500 | 100.0 | 30.0 |" in page
    assert "900 updates of 16 pictures" in page


def test_networks_that_diverged_do_not_count_and_are_told():
    found = rows()
    found[0] = row("detection", 0, diverged_at=7)
    _, answer, _, sections = multi_task.page(TWO, found, 900)
    assert "AP50 no difference shown (+3.0 points, 3.0 to 3.0, n = 1)" in answer
    assert "of which 1 networks diverged" in "\n".join(sections)
    _, answer, _, _ = multi_task.page(TWO, rows(diverged_at=3), 900)
    assert answer.startswith("Nothing is shown")


@pytest.mark.slow
def test_it_trains_measures_and_goes_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(COUNTS, "scenes", {"train": 8, "validation": 2, "test": 4})
    out = tmp_path / "out"
    options = multi_task.Options(size=40, updates=40, batch_size=2, seeds=1, out=str(out))
    multi_task.main(options)
    page, found = (out / "README.md").read_text(), json.loads((out / "results.json").read_text())
    by_task = {one["task"]: one for one in found["rows"]}
    both = by_task["detection+segmentation"]
    assert 0 <= both["test/detection/ap50"] <= 1 and 0 < both["test/segmentation/mean_iou"] <= 1
    alone = [by_task[task]["parameters"] for task in ("detection", "segmentation")]
    assert max(alone) < both["parameters"] < sum(alone)
    assert all(one[name] > 0 for one in found["rows"] for name in multi_task.COSTS)
    assert both["curve"]["step"] == [20, 40]
    multi_task.main(options)  # draws the page anew
    assert (out / "README.md").read_text() == page
