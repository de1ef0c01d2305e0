"""The command `export`: a trained network for other programs, and a card that describes it."""

from __future__ import annotations

from pathlib import Path

from alexnet_jax.export.card import write_card
from alexnet_jax.export.onnx_graph import write_onnx
from alexnet_jax.export.stablehlo import write_stablehlo
from alexnet_jax.restored import load
from alexnet_jax.weights import of_run, read, write
from alexnet_jax.weights.base import network_of

WRITERS = {
    ".onnx": write_onnx,
    ".safetensors": write,
    ".npz": write,
}
ENDINGS = (".stablehlo", *WRITERS)


def export(source: str, target: str, spec: str | None = None) -> str:
    """Writes `source`, a run or a file of weights, as `target`, and tells what was written.

    A run for another task than classification becomes a program alone. Raises ValueError for
    another ending, weights that are not a whole network, or what the format cannot hold.
    """
    path = Path(target).expanduser()
    if path.suffix not in ENDINGS:
        raise ValueError(f"{target}: expected an ending of {', '.join(ENDINGS)}")
    run = None
    if Path(source).expanduser().is_file():
        weights = read(source, spec)
    elif spec is not None:
        raise ValueError(f"{source} knows its spec; --spec is for files that do not")
    else:
        run = load(source)
        weights = network_of(run) if path.suffix == ".stablehlo" else of_run(run)
    if weights.absent:
        raise ValueError(
            f"{source} lacks {', '.join(weights.absent)}; only a whole network is exported: train "
            f"one that begins with it, by --init {source}, or convert the file"
        )
    if weights.preprocessing is None:
        raise ValueError(
            f"{source} does not say how its images are to be prepared, so no program can be made "
            "of it; convert writes the weights alone"
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} does not exist; make the folder first")
    written = [path.with_suffix(".npz")] if path.suffix == ".stablehlo" else []
    if Path(source).expanduser().resolve() in [file.resolve() for file in written]:
        raise ValueError(f"the parameters of {target} would replace {source}; choose another name")
    if path.suffix == ".stablehlo":
        write_stablehlo(weights, path, run.task if run else None)
    else:
        WRITERS[path.suffix](weights, path)
    card = write_card(weights, path, run)
    return "\n".join(
        [
            f"{source} -> {target}",
            *(f"parameters: {file}" for file in written),
            f"card: {card}" if card else f"no card: README.md and {path.stem}.md are there",
            *(f"note: {note}" for note in weights.notes),
        ]
    )
