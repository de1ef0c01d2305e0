"""What an experiment says is what its rows are; what it has measured is not measured again."""

from __future__ import annotations

import json

import answers
import numpy as np
import pytest
from matplotlib.figure import Figure


def test_shares_and_differences_in_words():
    assert answers.spread([0.5, 0.75, 0.625]) == "62.5 % (50.0 to 75.0)"
    assert answers.spread([0.5]) == "50.0 %"
    first, second = np.array([0.6, 0.8]), np.array([0.5, 0.5])
    assert answers.difference(first, second) == "20.0 points more (10.0 to 30.0, n = 2)"
    assert answers.difference(second, first) == "20.0 points fewer (10.0 to 30.0, n = 2)"
    mixed = answers.difference(np.array([0.4, 0.9]), np.array([0.5, 0.6]))
    assert mixed == "10.0 points more (-10.0 to 30.0, n = 2)"


def test_what_is_shown_has_one_sign_in_all_pairs_and_more_than_one_of_them():
    first, second = {0: 0.6, 1: 0.8, 2: 0.9}, {0: 0.5, 1: 0.5}
    assert answers.paired(first, second) == "20.0 points more (10.0 to 30.0, n = 2)"
    assert answers.paired(second, first) == "20.0 points fewer (10.0 to 30.0, n = 2)"
    for other in ({0: 0.5, 1: 0.9}, {0: 0.6, 1: 0.8}, {0: 0.5}):
        assert answers.paired(first, other).startswith("no difference shown (+")
    assert answers.paired(first, {3: 0.5}) == "" == answers.paired({}, {})


def test_shares_are_told_with_how_many_diverged():
    assert answers.survivors({0: 0.5, 2: 0.7}, 3) == "60.0 % (50.0 to 70.0), 1 of 3 diverged"
    assert answers.survivors({0: 0.5}, 1) == "50.0 %"
    assert answers.survivors({}, 3) == "diverged"


def test_rows_are_chosen_by_their_case():
    rows = [{"m": "a", "seed": s, "accuracy": s / 10} for s in range(3)]
    rows += [{"m": "b", "seed": 0, "accuracy": 1.0}]
    assert answers.values(rows, m="a").tolist() == [0.0, 0.1, 0.2]
    assert answers.values(rows, "seed", m="b").tolist() == [0.0]


def test_a_killed_experiment_goes_on_and_other_settings_are_refused(tmp_path):
    asked = []

    def measure(x, seed):
        if len(asked) == 2 and x == 2:
            raise KeyboardInterrupt
        asked.append((x, seed))
        return {"accuracy": x / 4}

    cases = [{"x": x, "seed": seed} for x in (1, 2) for seed in (0, 1)]
    settings = {"taps": ("a", "b")}
    with pytest.raises(KeyboardInterrupt):
        answers.collect(tmp_path, settings, cases, measure)
    asked.append("again")
    rows = answers.collect(tmp_path, settings, cases, measure)
    assert asked == [(1, 0), (1, 1), "again", (2, 0), (2, 1)]
    assert [row["accuracy"] for row in rows] == [0.25, 0.25, 0.5, 0.5]
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    with pytest.raises(ValueError, match="measured with other settings"):
        answers.collect(tmp_path, {"taps": ("a",)}, cases, measure)


def test_outcomes_come_in_any_order_and_rows_that_are_not_asked_for_stay(tmp_path):
    answers.collect(tmp_path, {}, [{"x": 9}], lambda x: {"accuracy": 0.0})
    cases = [{"x": 1}, {"x": 2}, {"x": 3}]

    def measure(missing):
        for which in (2, 0, 1):
            yield which, {"accuracy": missing[which]["x"] / 4, "curve": {"step": [1]}}

    rows = answers.collect_all(tmp_path, {}, cases, measure)
    assert [(row["x"], row["accuracy"]) for row in rows] == [(1, 0.25), (2, 0.5), (3, 0.75)]
    kept = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert sorted(row["x"] for row in kept) == [1, 2, 3, 9]


def test_a_page_has_the_answer_the_figure_and_how_it_was_measured(tmp_path, capsys):
    answers.collect(tmp_path, {}, [{"x": 1}], lambda x: {"accuracy": 0.5})
    table = answers.markdown_table(["x", "share"], [["1", "50.0 %"]])
    answers.publish(tmp_path, "Why?", "Because 1 is 1.", Figure(), [table])
    page = (tmp_path / "README.md").read_text()
    assert page.startswith("# Why?\n\nBecause 1 is 1.\n")
    assert "| x | share |\n| :-- | --: |\n| 1 | 50.0 % |" in page
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "1 networks" in page and "jax" in page
    assert "Because 1 is 1." in capsys.readouterr().out


def test_the_direction_of_a_difference_is_that_of_every_pair_and_never_of_one_alone():
    high = np.array([0.6, 0.7, 0.8])
    assert answers.direction(high, high - 0.1) == 1 and answers.direction(high - 0.1, high) == -1
    for less in ([0.1, 0.0, 0.1], [0.1, -0.1, 0.1]):
        assert answers.direction(high, high - np.array(less)) == 0
    assert answers.direction(high[:1], high[:1] - 0.1) == 0


def test_a_difference_is_shown_where_all_pairs_agree_on_its_sign():
    first, second = np.array([0.6, 0.8]), np.array([0.5, 0.5])
    assert answers.compared(first, second) == "20.0 points more (10.0 to 30.0, n = 2)"
    assert answers.compared(second, first) == "20.0 points fewer (10.0 to 30.0, n = 2)"
    # one that has nothing to draw, against each draw of the other
    assert answers.compared(np.array([0.9]), first) == "20.0 points more (10.0 to 30.0, n = 2)"
    mixed = answers.compared(np.array([0.4, 0.9]), np.array([0.5, 0.6]))
    assert mixed == "no difference shown (+10.0 points, -10.0 to 30.0, n = 2)"
    same = answers.compared(first, first - 1e-9)
    assert same == "no difference shown (+0.0 points, 0.0 to 0.0, n = 2)"
    nothing = answers.compared(np.array([]), np.array([]))
    assert nothing == "no difference shown (nothing to compare)"


def test_pairs_are_of_the_seeds_that_both_have():
    rows = [{"m": "a", "seed": s, "accuracy": s / 10} for s in (0, 1, 2)]
    rows += [{"m": "b", "seed": s, "accuracy": s / 5} for s in (2, 1)]
    first, second = answers.pairs(rows, "accuracy", {"m": "a"}, {"m": "b"})
    assert first.tolist() == [0.1, 0.2] and second.tolist() == [0.2, 0.4]
