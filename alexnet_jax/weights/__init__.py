"""Other people's AlexNet files, both ways: torchvision's, Caffe's, and `.npz`.

weights = read("alexnet.safetensors")
logits = AlexNet(weights.spec).apply({"params": weights.params}, images)
write(weights, "alexnet.npz")
"""

from alexnet_jax.weights.base import Weights, of_run
from alexnet_jax.weights.files import read, write
from alexnet_jax.weights.pretrained import from_pretrained, save_pretrained

__all__ = ["Weights", "from_pretrained", "of_run", "read", "save_pretrained", "write"]
