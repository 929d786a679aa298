"""What computes a segmenter's logits: PyTorch, or onnxruntime for exported files. Each is imported on use alone."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from labels4free.checkpoints.native import NativeHeader, parse_metadata
from labels4free.errors import CheckpointError, ConfigError
from labels4free.files import unreadable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_log = logging.getLogger(__name__)

ONNX_SUFFIX = ".onnx"
"""End of the name of a file for onnxruntime."""


class Runtime(Protocol):
    """Computes logits.

    Attributes:
        working_size: Longer side in pixels that photos are scaled to.
        multiple: Sides must be multiples of this.
    """

    working_size: int
    multiple: int

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, 3, H, W] in [-1, 1] to [N, 1, H, W]."""


class TorchRuntime:
    """A native checkpoint, by PyTorch.

    Args:
        source: As for :func:`labels4free.checkpoints.loading.load_segmenter`.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        CheckpointError: If the source is no segmenter.
        ConfigError: If the device cannot be used, or PyTorch is not installed.
    """

    def __init__(self, source: str | Path, device: str = "cpu") -> None:
        try:
            import torch
        except ImportError as error:
            raise ConfigError(
                f"{source} needs PyTorch, which cannot be imported here; install it, or give a file that "
                "`labels4free export` wrote (.onnx)."
            ) from error
        from labels4free.checkpoints.loading import load_segmenter

        network = load_segmenter(source, device)
        self.working_size, self.multiple = network.working_size, network.multiple
        # On CPUs convolutions of maps laid out like this take half the time.
        self._network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._device = device

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, 3, H, W] in [-1, 1] to [N, 1, H, W]."""
        import torch

        with torch.inference_mode():
            found: NDArray[np.float32] = self._network(torch.from_numpy(images).to(self._device)).float().cpu().numpy()
        return found


class OnnxRuntime:
    """A file that ``labels4free export`` wrote, by onnxruntime; PyTorch is not needed.

    Args:
        path: The file.
        device: ``cpu``, or ``cuda`` where onnxruntime has it.
        threads: Threads that compute; 0 is one a core.

    Raises:
        CheckpointError: If it is no such file, or one of another kind.
        ConfigError: If onnxruntime is not installed, or the device cannot be used.
    """

    def __init__(self, path: str | Path, device: str = "cpu", threads: int = 0) -> None:
        path = Path(path)
        try:
            import onnxruntime
        except ImportError as error:
            raise ConfigError(f"{path} needs onnxruntime: pip install onnxruntime.") from error
        try:
            content = path.read_bytes()
        except OSError as error:
            raise CheckpointError(unreadable(path, error)) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(content, options, providers=_providers(device))
        except ConfigError:
            raise
        except Exception as error:  # its classes have no common base but Exception
            raise CheckpointError(f"{path} is not a model that onnxruntime can load ({_first_line(error)}).") from error
        header = onnx_header(path, self._session.get_modelmeta().custom_metadata_map, "segmenter")
        try:
            self.working_size, self.multiple = int(header.config["working_size"]), 2 ** len(header.config["widths"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"{path} is damaged: its configuration lacks {error}; export it again.") from error
        self._input = self._session.get_inputs()[0].name

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, 3, H, W] in [-1, 1] to [N, 1, H, W]."""
        found: NDArray[np.float32] = self._session.run(None, {self._input: images})[0]
        return found


def onnx_header(path: Path, metadata: dict[str, str], kind: str | None = None) -> NativeHeader:
    """What an exported file says about itself.

    Raises:
        CheckpointError: If it was not exported by this package, or is of another kind.
    """
    return parse_metadata(path, metadata, kind, "an ONNX file")


def _providers(device: str) -> list[str]:
    if device == "cpu":
        return ["CPUExecutionProvider"]
    import onnxruntime

    there = onnxruntime.get_available_providers()
    if device != "cuda" or "CUDAExecutionProvider" not in there:
        raise ConfigError(f"Device {device} was asked for; this onnxruntime has {', '.join(there)}: use cpu.")
    return ["CUDAExecutionProvider", "CPUExecutionProvider"]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].removesuffix(".") if str(error) else type(error).__name__
