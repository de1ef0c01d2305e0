from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib
import pytest
from bowl import PARAMS, TARGET, assert_close, gradient, run

from alexnet_jax.optim.chain import optimizer, with_hyper
from alexnet_jax.optim.rules import Rules, merge, split
from alexnet_jax.optim.schedules import Schedule, build

# The order


def numpy_reference(nesterov, l1_form):
    """Everything at once, from the definitions, in float64, one loop over named arrays."""
    peak, momentum, l2, l1, decay, clip = 0.1, 0.8, 0.02, 0.3, 0.04, 1.5
    flat = {
        f"{layer}/{kind}": np.float64(w) for layer, x in PARAMS.items() for kind, w in x.items()
    }
    velocity = {name: np.zeros_like(w) for name, w in flat.items()}
    for step in range(10):
        steepness = 1.0 + 0.5 * np.sin(1.0 + step)
        layers = {name: name.split("/") for name in flat}
        grads = {n: steepness * (flat[n] - TARGET[a][b]) for n, (a, b) in layers.items()}
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        factor = (step + 1) / 4 if step < 3 else 1.0  # three steps of warm-up
        for name, w in flat.items():
            g = grads[name] * min(1.0, clip / norm)
            on = name.endswith("kernel")
            rate = peak * factor * (2.0 if name.startswith("head") else 1.0)
            own_l2 = 0.5 if name == "conv1/kernel" else l2 * on
            g = g + own_l2 * w
            if l1_form == "coupled":
                g = g + l1 * on * np.sign(w)
            v = velocity[name] = momentum * velocity[name] + g
            direction = g + momentum * v if nesterov else v
            new = w - rate * (direction + decay * on * w)
            if l1_form == "proximal":
                new = np.sign(new) * np.maximum(np.abs(new) - rate * l1 * on, 0)
            flat[name] = new
    return {layer: {kind: flat[f"{layer}/{kind}"] for kind in x} for layer, x in PARAMS.items()}


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("l1_form", ["coupled", "proximal"])
def test_the_whole_order_by_hand(nesterov, l1_form):
    schedule = build(Schedule(warmup=3), total_steps=10, batch_size=1, num_examples=1)
    rules = Rules((("^head/", {"lr_mult": 2}), ("conv1/kernel", {"l2": 0.5})))
    settings = {"momentum": 0.8, "l2": 0.02, "l1": 0.3, "decay": 0.04, "clip": 1.5}
    tx = optimizer(
        "sgd",
        learning_rate=0.1,
        nesterov=nesterov,
        l1_form=l1_form,
        schedule=schedule,
        rules=rules,
        **settings,
    )
    expected = numpy_reference(nesterov, l1_form)
    assert_close(run(tx, steps=10), expected)
    zeros = sum(int(np.sum(w == 0)) for w in jax.tree.leaves(expected))
    assert (zeros > 0) == (l1_form == "proximal")


@pytest.mark.parametrize(("momentum", "nesterov"), [(None, False), (0.9, False), (0.9, True)])
def test_l2_in_the_loss_is_coupled_decay(momentum, nesterov):
    make = partial(
        optimizer, "sgd", learning_rate=0.05, momentum=momentum, nesterov=nesterov, l2=0.1, l1=0.01
    )
    loss = run(make(l2_form="loss", l1_form="loss"), steps=50)
    assert_close(loss, run(make(), steps=50))
    with pytest.raises(AssertionError):
        assert_close(loss, run(make(l2=0.0), steps=50), rtol=1e-2)


def test_clipping_bounds_the_gradient_and_not_the_coupled_penalty():
    tx = optimizer("sgd", learning_rate=1.0, l2=100.0, clip=0.5)
    params = {"kernel": jnp.array([1.0, -1.0]), "bias": jnp.array([1.0, -1.0])}
    for size, clipped in [(6.0, 0.25), (0.1, 0.1), (0.0, 0.0)]:  # norm of [g, g, g, g] is 2g
        grads = jax.tree.map(lambda w: jnp.full_like(w, size), params)  # noqa: B023
        updates, _ = tx.update(grads, tx.init(params), params)
        np.testing.assert_allclose(updates["bias"], [-clipped, -clipped], rtol=1e-6)
        np.testing.assert_allclose(updates["kernel"], [-100 - clipped, 100 - clipped], rtol=1e-6)


# Hyperparameters in the state


def test_changing_a_hyperparameter_changes_the_next_step_and_compiles_nothing():
    traces = []

    @jax.jit
    def step(params, state):
        traces.append(1)
        updates, state = tx.update(gradient(params, 0), state, params)
        return optax.apply_updates(params, updates), state

    tx = optimizer("sgd", learning_rate=0.1, momentum=0.9, l2=0.1, clip=1.0)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = tx.init(params)
    before, _ = step(params, state)
    for change in (
        {"learning_rate": 0.2},
        {"lr_scale": 0.5},
        {"l2": 0.3},
        {"l1": 0.1},
        {"decay": 0.1},
    ):
        after, new = step(params, with_hyper(state, **change))
        assert np.max(np.abs(after["head"]["kernel"] - before["head"]["kernel"])) > 1e-4
        assert new.count == 1
    first, second = step(*step(params, state)), step(*step(params, with_hyper(state, momentum=0.1)))
    assert np.max(np.abs(first[0]["head"]["kernel"] - second[0]["head"]["kernel"])) > 1e-4
    assert len(traces) == 1


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_population_in_one_program_equals_separate_runs(name):
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    rates, strengths = jnp.array([0.003, 0.03, 0.1]), jnp.array([0.0, 0.01, 0.1])
    tx = optimizer(name, learning_rate=1.0, l2=0.5, **momentum)
    params = jax.tree.map(jnp.asarray, PARAMS)
    start = lambda rate, l2: with_hyper(tx.init(params), learning_rate=rate, l2=l2)  # noqa: E731
    population = jax.vmap(lambda state: run(tx, state=state))(jax.vmap(start)(rates, strengths))
    for i, (rate, l2) in enumerate(zip(rates.tolist(), strengths.tolist(), strict=True)):
        alone = run(optimizer(name, learning_rate=rate, l2=l2, **momentum))
        assert_close(jax.tree.map(lambda x: x[i], population), alone, rtol=2e-6)  # noqa: B023


def test_a_strength_that_a_rule_gives_is_fixed_and_others_follow_the_state():
    rules = Rules((("^head/kernel", {"l2": 0.0}),))
    tx = optimizer("sgd", learning_rate=1.0, l2=0.5, rules=rules)
    params = jax.tree.map(jnp.asarray, PARAMS)
    state = with_hyper(tx.init(params), l2=0.25)
    updates, _ = tx.update(jax.tree.map(jnp.zeros_like, params), state, params)
    np.testing.assert_allclose(updates["conv1"]["kernel"], -0.25 * PARAMS["conv1"]["kernel"])
    for layer, kind in (("head", "kernel"), ("conv1", "bias"), ("norm1", "scale")):
        np.testing.assert_array_equal(updates[layer][kind], 0.0)


def test_the_learning_rate_is_that_of_the_next_update():
    schedule = lambda count: jnp.where(count < 2, 1.0, 0.1)  # noqa: E731
    tx = optimizer("sgd", learning_rate=0.5, schedule=schedule)
    params = {"kernel": jnp.zeros(3)}
    state, rates = tx.init(params), []
    for number in range(4):
        if number == 3:
            state = with_hyper(state, lr_scale=0.5)
        rates.append(float(tx.learning_rate(state)))
        updates, state = tx.update({"kernel": jnp.ones(3)}, state, params)
        np.testing.assert_allclose(updates["kernel"], -rates[-1], rtol=1e-6)
    np.testing.assert_allclose(rates, [0.5, 0.5, 0.05, 0.025], rtol=1e-6)


def test_penalty_is_the_loss_form_alone_and_regularization_is_any():
    make = partial(optimizer, "adam", learning_rate=1.0, l2=0.1, l1=0.2)
    head, conv = PARAMS["head"]["kernel"], PARAMS["conv1"]["kernel"]
    l2 = 0.05 * (np.sum(head**2) + np.sum(conv**2))
    l1 = 0.2 * (np.sum(np.abs(head)) + np.sum(np.abs(conv)))
    for l2_form in ("loss", "coupled"):
        for l1_form in ("loss", "coupled", "proximal"):
            tx = make(l2_form=l2_form, l1_form=l1_form)
            state = tx.init(PARAMS)
            expected = l2 * (l2_form == "loss") + l1 * (l1_form == "loss")
            np.testing.assert_allclose(tx.penalty(PARAMS, state), expected, rtol=1e-5)
            np.testing.assert_allclose(tx.regularization(PARAMS, state), l2 + l1, rtol=1e-5)


# Frozen parameters and half precision


@pytest.mark.parametrize("name", ["sgd", "adamw", "lamb", "muon"])
def test_frozen_parameters_have_no_state_and_do_not_move(name):
    rules = Rules((("^conv1/", {"frozen": True}), ("^head/", {"lr_mult": 2})))
    momentum = {"momentum": 0.9} if name == "sgd" else {}
    tx = optimizer(name, learning_rate=0.1, decay=0.1, clip=1.0, rules=rules, **momentum)
    params = jax.tree.map(jnp.asarray, PARAMS)
    trainable, fixed = split(params, rules.frozen(params))
    state = tx.init(trainable)
    assert not any(x.shape == (3, 3, 2, 4) for x in jax.tree.leaves(state))
    grads, _ = split(gradient(params, 0), rules.frozen(params))
    updates, state = tx.update(grads, state, trainable)
    after = merge(optax.apply_updates(trainable, updates), fixed)
    assert after["conv1"]["kernel"] is params["conv1"]["kernel"]
    assert np.all(after["norm1"]["scale"] != params["norm1"]["scale"])
    for call in (lambda: tx.init(params), lambda: tx.update(params, state, params)):
        with pytest.raises(ValueError, match=r"conv1/bias, conv1/kernel.*trainable part"):
            call()


def test_half_precision_parameters_are_updated_in_float32():
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), PARAMS)
    whole = jax.tree.map(lambda x: x.astype(jnp.float32), half)
    tx = optimizer("adam", learning_rate=0.1, l2=0.1, clip=1.0)
    grads = jax.tree.map(lambda w: w * 1e-3, half)
    updates, state = tx.update(grads, tx.init(half), half)
    expected, _ = tx.update(jax.tree.map(jnp.float32, grads), tx.init(whole), whole)
    assert {x.dtype.name for x in jax.tree.leaves(state)} == {"float32", "int32"}
    for u, e in zip(jax.tree.leaves(updates), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(u, e.astype(jnp.bfloat16))


# Errors


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("adm", {}, "did you mean 'adam'"),
        ("clip", {}, "Unknown optimizer"),
        ("sgd", {"nesterov": True}, "needs a momentum"),
        ("sgd", {"extra": {"b1": 0.9}}, "no extra settings"),
        ("adam", {"momentum": 0.9}, "no setting 'momentum'; give momentum None; it has b1, b2"),
        ("lamb", {"nesterov": True}, "has no setting 'nesterov'"),
        ("adam", {"extra": {"beta1": 0.9}}, "no setting 'beta1'; it has b1, b2, eps"),
        ("adamw", {"extra": {"weight_decay": 0.1}}, "use the argument decay"),
        ("muon", {"extra": {"adam_learning_rate": 0.1}}, "lr_mult"),
        ("fromage", {}, "not proportional to the learning rate"),
        ("schedule_free_sgd", {}, "other parameters"),
        ("lbfgs", {}, "more than the gradient"),
        ("sgd", {"l2_form": "decoupled"}, "l2_form must be 'coupled' or 'loss', got 'decoupled'"),
        ("sgd", {"l1_form": "prox"}, "l1_form"),
        ("sgd", {"l1": -1.0}, "l1 must be finite and not negative"),
        ("sgd", {"learning_rate": float("nan")}, "learning_rate must be finite"),
        ("sgd", {"momentum": 1.0}, "momentum"),
        ("sgd", {"clip": 0.0}, "clip"),
        ("sgd", {"ema": 1.0}, "ema"),
    ],
)
def test_bad_settings_are_refused(name, settings, message):
    with pytest.raises(ValueError, match=message):
        optimizer(name, **{"learning_rate": 0.1, **settings})


def test_bad_calls_are_refused():
    tx = optimizer("sgd", learning_rate=0.1, rules=Rules((("^hed/", {"lr_mult": 2}),)))
    with pytest.raises(ValueError, match="matches no parameter"):
        tx.init(PARAMS)
    tx = optimizer("sgd", learning_rate=0.1)
    state = tx.init(PARAMS)
    with pytest.raises(ValueError, match="needs the parameters"):
        tx.update(PARAMS, state)
    with pytest.raises(ValueError, match=r"did you mean 'learning_rate'.*decay, l1, l2"):
        with_hyper(state, learning_rat=0.1)
    with pytest.raises(ValueError, match="Unknown hyperparameter 'momentum'"):
        with_hyper(state, momentum=0.1)
