"""Other people's AlexNet files, both ways: torchvision's, Caffe's, and `.npz`.

weights = read("alexnet.safetensors")
logits = AlexNet(weights.spec).apply({"params": weights.params}, images)
write(weights, "alexnet.npz")
"""

from alexnet_jax.weights.base import Weights, of_run
from alexnet_jax.weights.files import read, write

__all__ = ["Weights", "of_run", "read", "write"]
