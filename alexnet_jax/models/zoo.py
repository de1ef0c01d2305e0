"""The named specs: both networks of the lecture notes, those of the literature, and a small one."""

from __future__ import annotations

from dataclasses import replace

from alexnet_jax.models.spec import Conv, ResponseNorm, Spec

_POOL = ("activation", "pool")
_NORM_ACT_POOL = ("normalization", "activation", "pool")
_ACT_NORM_POOL = ("activation", "normalization", "pool")
_ACT_POOL_NORM = ("activation", "pool", "normalization")

# The lecture notes' figure: 224 px, 54x54x96 ... 5x5x256, dropout after the first two dense layers.
_NOTES_224 = Spec(
    name="notes_224",
    image_size=224,
    convs=(
        Conv(96, 11, stride=4, then=_POOL),
        Conv(256, 5, padding=(2, 2), then=_POOL),
        Conv(384, 3, padding=(1, 1)),
        Conv(384, 3, padding=(1, 1)),
        Conv(256, 3, padding=(1, 1), then=_POOL),
    ),
)

# Their table: 227 px, 55x55x96 ... 6x6x256, dropout before the first dense layer and after it.
_NOTES_227 = replace(_NOTES_224, name="notes_227", image_size=227, dropout=("pool5", "fc6"))

# Krizhevsky, Sutskever, Hinton 2012, as their source has it (layers-145.cfg): two towers joined
# in conv3 and the dense layers; 224 px with a last window that overhangs the image; response norm
# within a tower, before the first ReLU, and a second one over space after conv2.
_ORIGINAL_2012 = Spec(
    name="original_2012",
    image_size=224,
    convs=(
        Conv(96, 11, stride=4, padding=(0, 3), then=_NORM_ACT_POOL),
        Conv(
            256,
            5,
            padding=(2, 2),
            groups=2,
            bias=1.0,
            then=("activation", "normalization", "spatial_normalization", "pool"),
        ),
        Conv(384, 3, padding=(1, 1)),
        Conv(384, 3, padding=(1, 1), groups=2, bias=1.0),
        Conv(256, 3, padding=(1, 1), groups=2, bias=1.0, then=_POOL),
    ),
    normalization="local_response",
    response_norm=ResponseNorm(towers=2),
    kernel_init="gaussian_2012",
    dense_bias=1.0,
)

# Caffe's bvlc_alexnet: grouped, response norm (k = 1) between ReLU and pooling, biases 0.1.
_BVLC_ALEXNET = Spec(
    name="bvlc_alexnet",
    image_size=227,
    convs=(
        Conv(96, 11, stride=4, then=_ACT_NORM_POOL),
        Conv(256, 5, padding=(2, 2), groups=2, bias=0.1, then=_ACT_NORM_POOL),
        Conv(384, 3, padding=(1, 1)),
        Conv(384, 3, padding=(1, 1), groups=2, bias=0.1),
        Conv(256, 3, padding=(1, 1), groups=2, bias=0.1, then=_POOL),
    ),
    normalization="local_response",
    response_norm=ResponseNorm(k=1.0),
    kernel_init="gaussian_2012",
    dense_bias=0.1,
)

# Caffe's reference net: as above with pooling before the response norm, and biases 1.
_CAFFENET = replace(
    _BVLC_ALEXNET,
    name="caffenet",
    convs=(
        Conv(96, 11, stride=4, then=_ACT_POOL_NORM),
        Conv(256, 5, padding=(2, 2), groups=2, bias=1.0, then=_ACT_POOL_NORM),
        Conv(384, 3, padding=(1, 1)),
        Conv(384, 3, padding=(1, 1), groups=2, bias=1.0),
        Conv(256, 3, padding=(1, 1), groups=2, bias=1.0, then=_POOL),
    ),
    dense_bias=1.0,
)

# Krizhevsky 2014, arXiv:1404.5997, as torchvision has it: one tower, no response norm, dropout
# before both hidden dense layers.
_ONE_WEIRD_TRICK = Spec(
    name="one_weird_trick",
    image_size=224,
    convs=(
        Conv(64, 11, stride=4, padding=(2, 2), then=_POOL),
        Conv(192, 5, padding=(2, 2), then=_POOL),
        Conv(384, 3, padding=(1, 1)),
        Conv(256, 3, padding=(1, 1)),
        Conv(256, 3, padding=(1, 1), then=_POOL),
    ),
    dropout=("pool5", "fc6"),
)

# One tower with batch normalization before every ReLU (Ioffe and Szegedy 2015).
_BATCHNORM = replace(
    _NOTES_227,
    name="batchnorm",
    convs=(
        Conv(96, 11, stride=4, then=_NORM_ACT_POOL),
        Conv(256, 5, padding=(2, 2), then=_NORM_ACT_POOL),
        Conv(384, 3, padding=(1, 1), then=("normalization", "activation")),
        Conv(384, 3, padding=(1, 1), then=("normalization", "activation")),
        Conv(256, 3, padding=(1, 1), then=_NORM_ACT_POOL),
    ),
    normalization="batch",
    dense_normalization=True,
    dropout=("fc6", "fc7"),
)

# The same shape for 32 to 64 px: one run takes minutes on a laptop. At 32 px use conv1_stride=1.
_SMALL = Spec(
    name="small",
    image_size=64,
    convs=(
        Conv(32, 5, stride=2, padding=(2, 2), then=_POOL),
        Conv(64, 5, padding=(2, 2), then=_POOL),
        Conv(96, 3, padding=(1, 1)),
        Conv(96, 3, padding=(1, 1)),
        Conv(64, 3, padding=(1, 1), then=_POOL),
    ),
    dense=(256, 256),
    num_classes=10,
)

SPECS: dict[str, Spec] = {
    s.name: s
    for s in (
        _SMALL,
        _NOTES_224,
        _NOTES_227,
        _ORIGINAL_2012,
        _BVLC_ALEXNET,
        _CAFFENET,
        _ONE_WEIRD_TRICK,
        _BATCHNORM,
    )
}
