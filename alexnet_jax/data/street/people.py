"""Men and women: proportions, hair and clothes that overlap, so that no single one tells."""

from __future__ import annotations

import numpy as np

from alexnet_jax.data.street.canvas import Thing
from alexnet_jax.data.street.figures import Figure, Level, paint_figure
from alexnet_jax.data.street.light import Colour, paint, pick, vary
from alexnet_jax.data.street.poses import pose

_SKINS: tuple[Colour, ...] = (
    (250, 216, 190),
    (232, 184, 148),
    (198, 146, 106),
    (150, 102, 70),
    (98, 66, 48),
)
_HAIRS: tuple[Colour, ...] = (
    (34, 28, 26),
    (66, 44, 32),
    (110, 74, 44),
    (196, 158, 92),
    (150, 66, 36),
    (168, 166, 164),
)
_MUTED: tuple[Colour, ...] = (
    (38, 46, 76),
    (72, 74, 80),
    (94, 74, 54),
    (34, 34, 38),
    (164, 148, 116),
)


def man(rng: np.random.Generator) -> Thing:
    hair = pick(rng, ("short",) * 15 + ("none",) * 3 + ("tail", "long"))
    hat = paint(rng) if rng.random() < 0.2 else None
    trousers = 1 if rng.random() < 0.22 else 2
    return _person(
        rng,
        "man",
        height=float(rng.normal(1.78, 0.07)),
        shoulder=float(rng.normal(0.235, 0.013)),
        waist=float(rng.normal(0.165, 0.016)),
        hip=float(rng.normal(0.158, 0.01)),
        chest=0.0,
        hair=hair,
        hat=hat,
        skirt=None,
        trousers=trousers,
        beard=rng.random() < 0.3,
        thickness=float(rng.normal(1.12, 0.06)),
    )


def woman(rng: np.random.Generator) -> Thing:
    hair = pick(rng, ("long",) * 13 + ("tail",) * 4 + ("bun",) * 2 + ("short",))
    outfit = rng.random()
    skirt = "dress" if outfit < 0.4 else "skirt" if outfit < 0.7 else None
    return _person(
        rng,
        "woman",
        height=float(rng.normal(1.66, 0.065)),
        shoulder=float(rng.normal(0.19, 0.012)),
        waist=float(rng.normal(0.122, 0.012)),
        hip=float(rng.normal(0.178, 0.012)),
        chest=0.035,
        hair=hair,
        hat=paint(rng) if rng.random() < 0.08 else None,
        skirt=skirt,
        trousers=0 if skirt else 2 if rng.random() < 0.88 else 1,
        beard=False,
        thickness=float(rng.normal(0.92, 0.06)),
    )


def _person(
    rng: np.random.Generator,
    kind: str,
    height: float,
    shoulder: float,
    waist: float,
    hip: float,
    chest: float,
    hair: str,
    hat: Colour | None,
    skirt: str | None,
    trousers: int,
    beard: bool,
    thickness: float,
) -> Thing:
    joints = pose(rng, height, shoulder, hip * 0.62)
    hip_y, neck_y = float(joints[2, 1]), float(joints[12, 1])
    span = neck_y - hip_y
    torso = (
        (neck_y + 0.02, 0.055, 0.055),
        (neck_y - 0.05, shoulder + 0.02, 0.09),
        (neck_y - 0.2, shoulder - 0.01, 0.115 + chest),
        (hip_y + 0.42 * span, waist, 0.1),
        (hip_y + 0.05, hip, 0.115),
        (hip_y - 0.07, hip * 0.95, 0.11),
    )
    hem = hip_y - float(rng.uniform(0.28, 0.62)) * (hip_y / 0.9)
    flare = float(rng.uniform(1.3, 1.9))
    panels: tuple[Level, ...] = ()
    if skirt:
        panels = (
            (hip_y + 0.4 * span, waist + 0.005, 0.105),
            (hip_y + 0.02, hip + 0.01, 0.125),
            (hem, hip * flare, 0.12 * flare + 0.03),
        )
    muted = rng.random() < (0.75 if kind == "man" else 0.2)
    top = paint(rng)
    bottom = top if skirt == "dress" else vary(rng, pick(rng, _MUTED)) if muted else paint(rng)
    figure = Figure(
        joints=joints,
        head=0.07 * height,
        torso=torso,
        skirt=panels,
        hair=hair,
        limbs=(0.075 * thickness, 0.055 * thickness, 0.046 * thickness, 0.037 * thickness),
        skin=vary(rng, pick(rng, _SKINS), 8),
        hair_colour=vary(rng, pick(rng, _HAIRS), 8),
        top=top,
        bottom=bottom,
        shoe=vary(rng, pick(rng, ((36, 32, 32), (90, 60, 40), (226, 226, 224)))),
        sleeves=pick(rng, (0, 1, 2, 2) if kind == "woman" else (1, 1, 2, 2)),
        trousers=trousers,
        bag=paint(rng) if rng.random() < 0.25 else None,
        beard=beard,
        hat=hat,
    )
    reach = joints[:, [0, 2]]
    return Thing(
        kind,
        2 * float(np.abs(reach[:, 0]).max()) + 0.2,
        height,
        2 * float(np.abs(reach[:, 1]).max()) + 0.12,
        lambda canvas, view: paint_figure(canvas, view, figure),
        joints,
    )
