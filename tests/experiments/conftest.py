"""Experiments are scripts: their folder is where Python finds what they share."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "experiments"))
