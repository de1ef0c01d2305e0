import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from alexnet_jax.optim.chain import optimizer
from alexnet_jax.optim.regularizers import (
    add_l1,
    add_l2,
    l1_penalty,
    l2_penalty,
    proximal_l1,
    soft_threshold,
)

W = {"a": jnp.array([1.5, -2.0, 0.0]), "b": {"c": jnp.array([[0.25, -4.0]]), "gone": None}}
STRENGTHS = {"a": 0.1, "b": {"c": 0.5, "gone": None}}


def test_penalties_are_their_closed_forms():
    np.testing.assert_allclose(l1_penalty(W, STRENGTHS), 0.1 * 3.5 + 0.5 * 4.25, rtol=1e-6)
    np.testing.assert_allclose(l2_penalty(W, STRENGTHS), 0.05 * 6.25 + 0.25 * 16.0625, rtol=1e-6)
    np.testing.assert_allclose(l1_penalty(W, 2.0), 2 * 7.75, rtol=1e-6)
    assert l1_penalty({"a": None}, 1.0) == 0.0


def test_gradients_are_strength_times_sign_and_strength_times_weight():
    by_loss = jax.grad(l1_penalty)(W, STRENGTHS)
    np.testing.assert_array_equal(by_loss["a"], np.float32([0.1, -0.1, 0.0]))  # 0 at 0
    np.testing.assert_array_equal(by_loss["b"]["c"], np.float32([[0.5, -0.5]]))
    by_loss = jax.grad(l2_penalty)(W, STRENGTHS)
    np.testing.assert_allclose(by_loss["a"], [0.15, -0.2, 0.0], rtol=1e-6)
    np.testing.assert_allclose(by_loss["b"]["c"], [[0.125, -2.0]], rtol=1e-6)


@pytest.mark.parametrize(("penalty", "add"), [(l1_penalty, add_l1), (l2_penalty, add_l2)])
def test_adding_the_gradient_equals_differentiating_the_penalty(penalty, add):
    zeros = jax.tree.map(jnp.zeros_like, W)
    added, differentiated = add(zeros, W, STRENGTHS), jax.grad(penalty)(W, STRENGTHS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), added, differentiated)


def test_half_precision_parameters_are_summed_in_float32():
    w = jnp.full(4096, 0.01, jnp.bfloat16)
    value = l2_penalty(w, 1.0)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, 0.5 * 4096 * float(w[0]) ** 2, rtol=1e-5)
    assert jax.grad(l1_penalty)(w, 0.5).dtype == jnp.bfloat16


def test_soft_threshold_solves_its_minimization():
    x, threshold = np.linspace(-2, 2, 41), 0.6
    grid = np.linspace(-3, 3, 60001)
    best = [grid[np.argmin(0.5 * (grid - v) ** 2 + threshold * np.abs(grid))] for v in x]
    np.testing.assert_allclose(soft_threshold(jnp.asarray(x), threshold), best, atol=1e-4)


def test_the_proximal_step_gives_exact_zeros_through_apply_updates():
    keys = jax.random.split(jax.random.key(0))
    w, u = (jax.random.normal(key, (100_000,)) * 0.1 for key in keys)
    stepped = optax.apply_updates(w, proximal_l1(u, w, 0.1))
    inside = np.abs(np.asarray(w) + np.asarray(u)) <= 0.1
    assert 0.2 < inside.mean() < 0.8
    np.testing.assert_array_equal(np.asarray(stepped)[inside], 0.0)
    np.testing.assert_allclose(stepped, soft_threshold(w + u, 0.1), atol=1e-7)
    np.testing.assert_array_equal(proximal_l1(u, w, 0.0), u)


def test_in_a_chain_of_optax():
    tx = optax.chain(optax.stateless(lambda g, p: add_l1(g, p, 0.5)), optax.sgd(0.1))
    w = jnp.array([1.0, -1.0, 0.0])
    updates, _ = tx.update(jnp.zeros(3), tx.init(w), w)
    np.testing.assert_allclose(updates, [-0.05, 0.05, 0.0], rtol=1e-6)


# Gradient descent on |w - TARGET|^2 / 2 with each form converges to a minimizer in closed form.
TARGET = np.array([2.0, -1.0, 0.3, -0.3, 0.0], np.float32)
L1, L2, RATE = 0.5, 0.25, 0.05


def fit(**settings):
    """Minimize with plain SGD, adding the penalty's gradient as a training step does."""
    tx = optimizer("sgd", learning_rate=RATE, **settings)

    def step(carry, _):
        w, state = carry
        penalty = jax.grad(tx.penalty)(w, state)
        gradient = {"kernel": w["kernel"] - TARGET + penalty["kernel"]}
        updates, state = tx.update(gradient, state, w)
        return (optax.apply_updates(w, updates), state), None

    w = {"kernel": jnp.ones(5)}
    (w, _), _ = jax.lax.scan(step, (w, tx.init(w)), length=1500)
    return np.asarray(w["kernel"])


def soft(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


@pytest.mark.parametrize("settings", [{"l2": L2, "l2_form": "loss"}, {"l2": L2}, {"decay": L2}])
def test_l2_in_three_forms_shrinks_to_the_ridge_solution(settings):
    np.testing.assert_allclose(fit(**settings), TARGET / (1 + L2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("form", ["loss", "coupled", "proximal"])
def test_l1_in_three_forms_reaches_the_lasso_solution(form):
    w, solution = fit(l1=L1, l1_form=form), soft(TARGET, L1)
    if form == "proximal":
        np.testing.assert_allclose(w, solution, rtol=1e-5)
        np.testing.assert_array_equal(w == 0, solution == 0)
    else:  # a subgradient step of rate * strength jumps over zero for ever
        np.testing.assert_allclose(w, solution, atol=RATE * (L1 + 0.3) + 1e-6)
        assert not np.any(w[2:4] == 0)


@pytest.mark.parametrize("l1_form", ["loss", "coupled", "proximal"])
@pytest.mark.parametrize("l2", [{"l2": L2, "l2_form": "loss"}, {"l2": L2}, {"decay": L2}])
def test_elastic_net_reaches_its_solution_in_every_pair_of_forms(l1_form, l2):
    w, solution = fit(l1=L1, l1_form=l1_form, **l2), soft(TARGET, L1) / (1 + L2)
    np.testing.assert_allclose(w[:2], solution[:2], rtol=1e-5)
    atol = 0.0 if l1_form == "proximal" else RATE * (L1 + 0.3) + 1e-6
    np.testing.assert_allclose(w[2:], solution[2:], rtol=0, atol=atol)
