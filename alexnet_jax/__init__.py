"""alexnet_jax: train, study, reuse and hand over an AlexNet, as pure functions.

    net = AlexNet(spec("notes_224", num_classes=4))
    task = classification(net)
    tx = optimizer("sgd", learning_rate=0.01, momentum=0.9, l2=5e-4)
    state = init_state(seed=0, task=task, tx=tx, image_shape=(224, 224, 3))
    step = jax.jit(partial(train_step, task=task, tx=tx), donate_argnums=0)
    state, metrics = step(state, {"image": images, "label": labels})

What needs files, such as `alexnet_jax.train.checkpoint`, is imported by its own name.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alexnet_jax.attribution import occlusion, saliency
    from alexnet_jax.models.alexnet import AlexNet
    from alexnet_jax.models.cascade import Cascade
    from alexnet_jax.models.deep_pose import DeepPose
    from alexnet_jax.models.detector import Detector
    from alexnet_jax.models.fcn import FCN
    from alexnet_jax.models.spec import Spec, spec
    from alexnet_jax.optim.chain import optimizer
    from alexnet_jax.optim.rules import Rules
    from alexnet_jax.tasks.classification import classification
    from alexnet_jax.tasks.detection import detection
    from alexnet_jax.tasks.multi import multi
    from alexnet_jax.tasks.pose import pose
    from alexnet_jax.tasks.segmentation import segmentation
    from alexnet_jax.train import early_stopping
    from alexnet_jax.train.state import TrainState, init_state
    from alexnet_jax.train.step import eval_step, train_step

__version__ = "0.1.0"

__all__ = [
    "FCN",
    "AlexNet",
    "Cascade",
    "DeepPose",
    "Detector",
    "Rules",
    "Spec",
    "TrainState",
    "__version__",
    "classification",
    "detection",
    "early_stopping",
    "eval_step",
    "init_state",
    "multi",
    "occlusion",
    "optimizer",
    "pose",
    "saliency",
    "segmentation",
    "spec",
    "train_step",
]

# Loaded when first asked for: a command line need not wait for JAX to say what is wrong with it.
_MODULES = {
    "AlexNet": "models.alexnet",
    "Cascade": "models.cascade",
    "DeepPose": "models.deep_pose",
    "Detector": "models.detector",
    "FCN": "models.fcn",
    "Rules": "optim.rules",
    "Spec": "models.spec",
    "TrainState": "train.state",
    "classification": "tasks.classification",
    "detection": "tasks.detection",
    "early_stopping": "train.early_stopping",
    "eval_step": "train.step",
    "init_state": "train.state",
    "multi": "tasks.multi",
    "occlusion": "attribution",
    "optimizer": "optim.chain",
    "pose": "tasks.pose",
    "saliency": "attribution",
    "segmentation": "tasks.segmentation",
    "spec": "models.spec",
    "train_step": "train.step",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = import_module(f"{__name__}.{_MODULES[name]}")
    return getattr(module, name, module)  # early_stopping is a module itself
