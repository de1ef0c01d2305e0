"""What an AlexNet is, as data: `Spec` lists its layers; `spec(name, **changes)` gives a named one.

A spec holds numbers and names only, is hashable, and goes to JSON and back, so a checkpoint can
carry it whole. `AlexNet(spec)` turns it into a network (alexnet.py).
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from typing import Any

from alexnet_jax.models.initializers import NAMES as INITIALIZERS

ACTIVATIONS = ("relu", "tanh", "sigmoid", "elu", "leaky_relu", "gelu", "silu", "identity")
NORMALIZATIONS = ("none", "local_response", "batch", "layer", "group")
STEPS = ("normalization", "spatial_normalization", "activation", "pool")


@dataclass(frozen=True)
class Conv:
    """A convolution and the steps that follow it, in order.

    `padding` is (before, after) on both axes; (0, 3) is the 2012 source's window that overhangs
    the image by three pixels. `groups=2` are the two towers. `bias` is the bias' initial value.
    """

    features: int
    kernel: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)
    groups: int = 1
    bias: float = 0.0
    then: tuple[str, ...] = ("activation",)


@dataclass(frozen=True)
class ResponseNorm:
    """b = a / (k + alpha / size * sum of squares over `size` neighbouring channels) ** beta.

    Krizhevsky et al. 2012, section 3.3. Their source divides alpha by the window's size, as Caffe
    and PyTorch do; the paper's formula does not. Windows do not cross `towers`.
    """

    size: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 2.0
    towers: int = 1


@dataclass(frozen=True)
class Spec:
    """Every choice that makes one AlexNet differ from another.

    `dropout` names the taps that are dropped out on their way to the next layer. `width` scales
    every layer but the last, `depth` repeats the convolutions after the second. Convolutions are
    called conv1, conv2, ...; dense layers follow on (fc6, fc7); the classifier is `head`.
    """

    name: str
    image_size: int
    convs: tuple[Conv, ...]
    dense: tuple[int, ...] = (4096, 4096)
    num_classes: int = 1000
    activation: str = "relu"
    normalization: str = "none"
    dense_normalization: bool = False
    response_norm: ResponseNorm = ResponseNorm()
    dropout_rate: float = 0.5
    dropout: tuple[str, ...] = ("fc6", "fc7")
    kernel_init: str = "he_normal"
    dense_bias: float = 0.0
    width: float = 1.0
    depth: int = 1

    def __post_init__(self) -> None:
        _check(self)

    def conv_layers(self) -> tuple[tuple[str, Conv], ...]:
        """(name, Conv) in order, with `width` and `depth` applied: conv3, conv3_2, conv4, ..."""
        layers = []
        for i, conv in enumerate(self.convs, 1):
            conv = dataclasses.replace(conv, features=_scaled(conv.features, self.width))
            inner = dataclasses.replace(conv, then=tuple(s for s in conv.then if s != "pool"))
            repeats = self.depth if i > 2 else 1
            for r in range(1, repeats + 1):
                name = f"conv{i}" if r == 1 else f"conv{i}_{r}"
                layers.append((name, conv if r == repeats else inner))
        return tuple(layers)

    def dense_layers(self) -> tuple[tuple[str, int], ...]:
        """(name, neurons) in order: fc6, fc7."""
        first = len(self.convs) + 1
        return tuple((f"fc{first + i}", _scaled(n, self.width)) for i, n in enumerate(self.dense))

    def tap_names(self) -> tuple[str, ...]:
        """Names under which the network's intermediate values can be asked for, in order."""
        return tuple(name for name, _ in shapes(self, self.image_size))


def hands_on(name: str, conv: Conv) -> str:
    """The tap that a convolution's layer hands on to the next: pool5 where it pools, else conv4."""
    return name.split("_")[0].replace("conv", "pool") if "pool" in conv.then else name


def shapes(spec: Spec, size: int) -> tuple[tuple[str, tuple[int, ...]], ...]:
    """(tap, shape without the batch) for square images of `size` px, by arithmetic alone."""
    taps: list[tuple[str, tuple[int, ...]]] = []
    for name, conv in spec.conv_layers():
        size = (size + sum(conv.padding) - conv.kernel) // conv.stride + 1
        taps.append((name, (size, size, conv.features)))
        if "pool" in conv.then:
            size = (size - 3) // 2 + 1
            taps.append((hands_on(name, conv), (size, size, conv.features)))
    taps += [(name, (neurons,)) for name, neurons in spec.dense_layers()]
    return (*taps, ("logits", (spec.num_classes,)))


def multiply_adds(net: Spec, size: int | None = None) -> int:
    """Of the forward pass of one square image of `size` px, by default the spec's own, in
    convolutions and dense layers."""
    taps = dict(shapes(net, size or net.image_size))
    total, channels, tap = 0, 3, ""
    for name, conv in net.conv_layers():
        height, width, features = taps[name]
        total += height * width * features * conv.kernel**2 * channels // conv.groups
        channels = features
        tap = hands_on(name, conv)
    height, width, channels = taps[tap]
    inputs = height * width * channels
    for _, neurons in (*net.dense_layers(), ("head", net.num_classes)):
        total += inputs * neurons
        inputs = neurons
    return total


def layers_behind(
    spec: Spec, tap: str | None
) -> tuple[tuple[tuple[str, Conv], ...], tuple[tuple[str, int], ...]]:
    """(convolutions, dense layers) that come after a tap; all of them for None.

    Raises ValueError for a tap that is not what a layer hands on, such as conv1, which is pooled.
    """
    convs, dense = spec.conv_layers(), spec.dense_layers()
    if tap is None:
        return convs, dense
    ends = [*(hands_on(name, conv) for name, conv in convs), *(name for name, _ in dense)]
    if tap not in ends:
        raise ValueError(
            f"nothing can begin behind {tap!r}: the layers of {spec.name!r} hand on "
            f"{', '.join(ends)}"
        )
    done = ends.index(tap) + 1
    return convs[done:], dense[max(0, done - len(convs)) :]


def smallest_size(spec: Spec) -> int:
    """The smallest square image, in px, that leaves at least 1x1 after every layer."""
    return next(s for s in range(1, 10_000) if all(min(shape) > 0 for _, shape in shapes(spec, s)))


def spec(name: str, **changes: Any) -> Spec:
    """The named spec with fields changed: `spec("notes_224", num_classes=4, width=0.5)`.

    Besides the fields of `Spec`: `normalization` other than the spec's own places it in every
    convolution, at `norm_position` "before" or "after" the activation ("before" by default);
    `conv1_stride` changes the first stride; fewer `dense` layers take their dropout with them.

    Raises ValueError for an unknown name, field or value, with those that exist.
    """
    from alexnet_jax.models.zoo import SPECS

    if name not in SPECS:
        raise ValueError(f"no spec is called {name!r}{_nearest(name, SPECS)}")
    base = SPECS[name]
    stride = changes.pop("conv1_stride", None)
    position = changes.pop("norm_position", None)
    fields = [f.name for f in dataclasses.fields(Spec)]
    for key in changes:
        if key not in fields:
            raise ValueError(f"a spec has no field {key!r}{_nearest(key, fields)}")
    kind = changes.get("normalization", base.normalization)
    convs = changes.pop("convs", base.convs)
    if position is not None or kind != base.normalization:
        convs = tuple(_place_normalization(c, kind, position or "before") for c in convs)
    if stride is not None:
        if stride < 1:
            raise ValueError(f"conv1_stride is {stride}; expected at least 1")
        convs = (dataclasses.replace(convs[0], stride=stride), *convs[1:])
    if "dense" in changes and "dropout" not in changes:
        gone = [name for name, _ in base.dense_layers()][len(changes["dense"]) :]
        changes["dropout"] = tuple(tap for tap in base.dropout if tap not in gone)
    return dataclasses.replace(base, convs=convs, **changes)


def to_json(spec: Spec) -> dict:
    """Plain dict of a spec, for JSON."""
    return dataclasses.asdict(spec)


def from_json(data: dict) -> Spec:
    """The spec that `to_json` wrote. Raises ValueError for an unknown field, by name."""
    for cls, given in ((Spec, data), *((Conv, c) for c in data["convs"])):
        fields = [f.name for f in dataclasses.fields(cls)]
        if unknown := [key for key in given if key not in fields]:
            raise ValueError(
                f"{cls.__name__} has no field {unknown[0]!r}{_nearest(unknown[0], fields)}"
            )
    convs = tuple(
        Conv(**{**c, "padding": tuple(c["padding"]), "then": tuple(c["then"])})
        for c in data["convs"]
    )
    changed: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
    changed.update(convs=convs, response_norm=ResponseNorm(**data["response_norm"]))
    return Spec(**changed)


def _scaled(features: int, width: float) -> int:
    """Rounded to a multiple of 8, so that towers and vector units still divide it."""
    return features if width == 1.0 else max(8, round(features * width / 8) * 8)


def _place_normalization(conv: Conv, kind: str, position: str) -> Conv:
    if position not in ("before", "after"):
        raise ValueError(f"norm_position is {position!r}; expected 'before' or 'after'")
    then = [s for s in conv.then if s not in ("normalization", "spatial_normalization")]
    if kind != "none":
        at = then.index("activation") + (position == "after")
        then.insert(at, "normalization")
    return dataclasses.replace(conv, then=tuple(then))


def _check(spec: Spec) -> None:
    def refuse(field: str, expected: str) -> None:
        raise ValueError(f"spec {spec.name!r}: {field} is {getattr(spec, field)!r}; {expected}")

    for field, names in (
        ("activation", ACTIVATIONS),
        ("normalization", NORMALIZATIONS),
        ("kernel_init", INITIALIZERS),
    ):
        if (value := getattr(spec, field)) not in names:
            refuse(field, f"there is no such one{_nearest(value, names)}")
    if not 0.0 <= spec.dropout_rate < 1.0:
        refuse("dropout_rate", "expected at least 0 and less than 1")
    if spec.num_classes < 1:
        refuse("num_classes", "expected at least 1")
    if spec.width <= 0:
        refuse("width", "expected more than 0")
    if spec.depth < 1:
        refuse("depth", "expected a whole number of at least 1")
    if any(neurons < 1 for neurons in spec.dense):
        refuse("dense", "expected at least 1 neuron a layer")
    for conv in spec.convs:
        if unknown := [s for s in conv.then if s not in STEPS]:
            refuse("convs", f"unknown step {unknown[0]!r}; steps are {', '.join(STEPS)}")
        if _scaled(conv.features, spec.width) % conv.groups:
            refuse("convs", f"{conv.features} features do not divide into {conv.groups} groups")
    taps = spec.tap_names()[:-1]
    if unknown := [name for name in spec.dropout if name not in taps]:
        refuse("dropout", f"{unknown[0]!r} is no tap of it: {', '.join(taps)}")


def _nearest(name: str, names: Any) -> str:
    close = difflib.get_close_matches(name, names, n=1)
    known = ", ".join(names)
    return f"; did you mean {close[0]!r} of {known}?" if close else f"; there are {known}"
