"""Linear probe, nearest neighbours and draws of few examples, against what they are defined as."""

from __future__ import annotations

import numpy as np
import pytest

from alexnet_jax.transfer.probe import (
    answers,
    few_per_class,
    linear_probe,
    nearest_neighbours,
)


def blobs(count, classes=3, features=5, spread=0.5, seed=0):
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(99).normal(size=(classes, features))
    labels = np.arange(count) % classes
    return middles[labels] + spread * rng.normal(size=(count, features)), labels


def ridge_by_hand(values, labels, classes, strength):
    """Ridge regression with a free constant, in its primal form."""
    mean = values.mean(axis=0)
    x, targets = values - mean, np.eye(classes)[labels]
    penalty = strength * np.trace(x @ x.T) / len(x)
    kernel = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ targets)
    return kernel, targets.mean(axis=0) - mean @ kernel


@pytest.mark.parametrize("strength", [1e-3, 0.1, 10.0])
def test_the_probe_is_ridge_regression(strength):
    values, labels = blobs(40)
    probe = linear_probe(values, labels, 3, strengths=[strength])
    kernel, bias = ridge_by_hand(values, labels, 3, strength)
    np.testing.assert_allclose(probe.kernel, kernel, atol=1e-9)
    np.testing.assert_allclose(probe.bias, bias, atol=1e-9)
    assert probe.strength == strength


def test_without_validation_the_strength_is_that_of_leaving_each_example_out():
    """Against fitting anew without each example in turn."""
    values, labels = blobs(18, features=12, spread=1.5)
    strengths = [1e-4, 1e-2, 1.0, 100.0]
    mean = values.mean(axis=0)
    unit = np.trace((values - mean) @ (values - mean).T) / len(values)
    right, far = {}, {}
    for strength in strengths:
        hits, error = 0, 0.0
        for i in range(len(values)):
            rest = np.arange(len(values)) != i
            x, y = values[rest], labels[rest]
            # The penalty is that of all examples, in absolute terms.
            own = np.trace((x - x.mean(0)) @ (x - x.mean(0)).T) / len(x)
            kernel, bias = ridge_by_hand(x, y, 3, strength * unit / own)
            scores = values[i] @ kernel + bias
            hits += scores.argmax() == labels[i]
            error += ((scores - np.eye(3)[labels[i]]) ** 2).sum()
        right[strength], far[strength] = hits, error
    best = max(strengths, key=lambda s: (right[s], -far[s]))
    assert len(set(right.values())) > 1  # or the choice would show nothing
    assert linear_probe(values, labels, 3, strengths=strengths).strength == best


@pytest.mark.parametrize("views", [2, 3])
def test_a_picture_is_left_out_with_all_its_views(views):
    """Against fitting anew without each picture in turn. Left out one by one, views of a picture,
    which lie close together, tell each other's class: too weak a penalty seems best."""
    pictures, labels = blobs(18, features=20, spread=1.5)
    rng = np.random.default_rng(5)
    values = (pictures[:, None] + 1e-3 * rng.normal(size=(18, views, 20))).reshape(-1, 20)
    labels = np.repeat(labels, views)
    strengths = [1e-6, 1e-2, 1.0, 100.0]
    unit = ((values - values.mean(0)) ** 2).sum() / len(values)
    merit = {}
    for strength in strengths:
        hits, error = 0, 0.0
        for i in range(18):
            rest = np.arange(len(values)) // views != i
            x, y = values[rest], labels[rest]
            own = ((x - x.mean(0)) ** 2).sum() / len(x)
            kernel, bias = ridge_by_hand(x, y, 3, strength * unit / own)
            scores = values[~rest] @ kernel + bias
            hits += (scores.argmax(1) == labels[~rest]).sum()
            error += ((scores - np.eye(3)[labels[~rest]]) ** 2).sum()
        merit[strength] = hits, -error
    best = max(strengths, key=merit.__getitem__)
    assert linear_probe(values, labels, 3, strengths=strengths, views=views).strength == best
    assert linear_probe(values, labels, 3, strengths=strengths).strength < best


def test_with_validation_the_strength_is_that_of_most_right_answers_there():
    values, labels = blobs(12, features=30, spread=2.0)
    validation = blobs(60, features=30, spread=2.0, seed=1)
    strengths = [1e-5, 1e-2, 1.0, 1e4]
    right = {}
    for strength in strengths:
        kernel, bias = ridge_by_hand(values, labels, 3, strength)
        right[strength] = ((validation[0] @ kernel + bias).argmax(1) == validation[1]).sum()
    probe = linear_probe(values, labels, 3, validation=validation, strengths=strengths)
    assert right[probe.strength] == max(right.values())
    assert (answers(probe, validation[0]) == validation[1]).sum() == max(right.values())


def test_nearest_neighbours_vote():
    values = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0], [0.1, 0.9], [0.2, 0.8]])
    labels = np.array([0, 0, 1, 1, 1])
    queries = np.array([[5.0, 0.1], [0.1, 3.0], [1.0, 0.9]])
    one = nearest_neighbours(values, labels, 2, queries, count=1)
    np.testing.assert_array_equal(one[:2], [0, 1])
    # Of all five, three are of class 1, but for the first query those of class 0 are nearer.
    np.testing.assert_array_equal(nearest_neighbours(values, labels, 2, queries, 5), [0, 1, 1])
    np.testing.assert_array_equal(nearest_neighbours(values, labels, 2, queries, 99), [0, 1, 1])


def test_draws_are_nested_even_and_of_their_seed():
    labels = np.array([0] * 9 + [1] * 20 + [2] * 3)
    few, more = few_per_class(labels, 3, seed=0), few_per_class(labels, 7, seed=0)
    assert np.bincount(labels[few]).tolist() == [3, 3, 3]
    assert np.bincount(labels[more]).tolist() == [7, 7, 3]  # all there are
    assert set(few) <= set(more) and len(set(more)) == len(more)
    np.testing.assert_array_equal(few, few_per_class(labels, 3, seed=0))
    assert set(few_per_class(labels, 3, seed=1)) != set(few)


def test_bad_input_is_named():
    values, labels = blobs(9)
    with pytest.raises(ValueError, match="no training example of class 3"):
        linear_probe(values, labels, 4)
    with pytest.raises(ValueError, match="9 rows of features for 8 labels"):
        nearest_neighbours(values, labels[:8], 3, values)
