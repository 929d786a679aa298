"""Networks for other runtimes: ONNX files, checked against PyTorch before they are written.

The file carries the same header as a native checkpoint (``checkpoints/native.py``), in ONNX's own metadata.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn

from labels4free.checkpoints.contents import NATIVE
from labels4free.checkpoints.loading import read_checkpoint
from labels4free.checkpoints.native import NativeHeader, header_metadata, is_native, read_native_header
from labels4free.checkpoints.places import alpha_network_file, checkpoint_file, segmenter_file
from labels4free.errors import CheckpointError, ConfigError
from labels4free.files import write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.networks.alpha_network import AlphaNetwork
    from labels4free.networks.segmenter import SegmenterNetwork

TOLERANCE = 1e-3
"""How far the file's numbers may be from PyTorch's, relative to the largest (logits of a segmenter, alpha else)."""

_NEEDED = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: The file.
        kind: ``segmenter`` or ``alpha_network``.
        inputs: Name -> shape of each input; texts are sizes that may be any.
        largest_difference: From PyTorch's numbers, over all inputs that were tried, relative to the largest number.
    """

    path: Path
    kind: str
    inputs: dict[str, list[int | str]]
    largest_difference: float


def export_onnx(source: str | Path, path: str | Path) -> Exported:
    """Export a segmenter or an alpha network, and check the file with onnxruntime against PyTorch.

    A segmenter takes ``image``, [N, 3, H, W] in [-1, 1] with sides that are multiples of 32 (see its ``multiple``), and
    gives ``logits``, [N, 1, H, W]. An alpha network takes the generator's maps, one input a map, named and shaped as
    its feature specs say, [N, C, R, R], and gives ``alpha``, [N, 1, R, R] in [0, 1].

    Args:
        source: What :func:`labels4free.checkpoints.loading.load_segmenter` or ``load_alpha_network`` takes.
        path: File to write; an older one is replaced.

    Raises:
        ConfigError: If the libraries for it are not installed, or ``path`` is a folder.
        CheckpointError: If the source is neither, the result differs from PyTorch's, or cannot be written.
    """
    path = Path(path)
    if path.is_dir():
        raise ConfigError(f"{path} is a folder; give the name of a file to write.")
    _require_libraries()
    plan = _plan(source)
    content = _with_metadata(_exported(plan), plan.header)
    difference = _largest_difference(plan, content)
    if not difference <= TOLERANCE:  # NaN, too
        raise CheckpointError(
            f"What was exported of {source} differs from PyTorch by {difference:.1e} of the largest value, at most "
            f"{TOLERANCE:.0e} was expected; nothing was written. Another version of torch or onnxscript may help."
        )
    try:
        write_atomically(path, content)
    except OSError as error:
        raise CheckpointError(write_failure(path, error)) from error
    return Exported(path, plan.header.kind, plan.shapes, difference)


@dataclass(frozen=True, eq=False)
class _Plan:
    """What is exported, and how.

    Attributes:
        module: Takes the inputs as separate arguments.
        header: For the file.
        shapes: Name -> shape of each input; texts are sizes that may be any.
        dynamic: The same for the exporter: for each input the axes that may change.
        output: Name of the output.
        trials: Values for "N" (and "H", "W", if they may change) to check the file with; the first are traced.
    """

    module: nn.Module
    header: NativeHeader
    shapes: dict[str, list[int | str]]
    dynamic: tuple[dict[int, Any], ...]
    output: str
    trials: Sequence[Mapping[str, int]]

    def inputs(self, sizes: Mapping[str, int], seed: int = 0) -> tuple[Tensor, ...]:
        """Random inputs of these sizes."""
        rng = torch.Generator().manual_seed(seed)
        shapes = [[n if isinstance(n, int) else sizes[n] for n in shape] for shape in self.shapes.values()]
        return tuple(torch.rand(shape, generator=rng) * 2 - 1 for shape in shapes)


class _Separate(nn.Module):
    """An alpha network whose maps are arguments of their own, as ONNX has it."""

    def __init__(self, network: AlphaNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, *features: Tensor) -> Tensor:
        """Maps [N, C, R, R], coarse to fine, to alpha [N, 1, R, R]."""
        alpha: Tensor = self.network(features)
        return alpha


def _plan(source: str | Path) -> _Plan:
    path, kind = _kind(source)
    found = read_checkpoint(path, kind)
    info = dict(found.info) if found.format == NATIVE else {"source": path.name}
    if (segmenter := found.segmenter) is not None:
        return _segmenter_plan(segmenter, NativeHeader(kind, segmenter.family, segmenter.config(), info))
    assert found.alpha_network is not None
    alpha = found.alpha_network
    return _alpha_plan(alpha, NativeHeader(kind, alpha.family, alpha.config(), info))


def _kind(source: str | Path) -> tuple[Path, str]:
    """The file of a source and whether it is a segmenter or an alpha network."""
    for find, name in ((segmenter_file, "segmenter"), (alpha_network_file, "alpha_network")):
        with contextlib.suppress(CheckpointError):
            path = find(source)
            kind = read_native_header(path).kind if is_native(path) else "alpha_network"
            if kind == name:
                return path, kind
    path = checkpoint_file(source)
    if path.is_dir():
        raise CheckpointError(f"{path} holds neither a segmenter nor an alpha network that could be exported.")
    kind = read_native_header(path).kind if is_native(path) else "file of another kind"
    raise CheckpointError(f"{path} is a {kind}; exported can be a segmenter or an alpha network.")


def _segmenter_plan(network: SegmenterNetwork, header: NativeHeader) -> _Plan:
    size, multiple = network.working_size, network.multiple
    height, width = (multiple * torch.export.Dim(name, min=1, max=1 << 10) for name in ("rows", "columns"))
    trials = [(2, size, size + multiple), (1, size, size), (1, size, multiple), (3, 2 * multiple, multiple)]
    return _Plan(
        module=network,
        header=header,
        shapes={"image": ["N", 3, "H", "W"]},
        dynamic=({0: torch.export.Dim("batch", min=1, max=1 << 16), 2: height, 3: width},),
        output="logits",
        trials=[dict(zip("NHW", trial, strict=True)) for trial in trials],
    )


def _alpha_plan(network: AlphaNetwork, header: NativeHeader) -> _Plan:
    shapes: dict[str, list[int | str]] = {
        spec.name: ["N", spec.channels, spec.resolution, spec.resolution] for spec in network.feature_specs
    }
    batch = torch.export.Dim("batch", min=1, max=1 << 16)
    return _Plan(
        module=_Separate(network).eval(),
        header=header,
        shapes=shapes,
        dynamic=(tuple({0: batch} for _ in shapes),),  # type: ignore[arg-type]
        output="alpha",
        trials=[{"N": 2}, {"N": 1}, {"N": 3}],
    )


def _exported(plan: _Plan) -> bytes:
    """The file's content as the exporter makes it."""
    with _quiet(), torch.enable_grad():  # without gradients, alpha networks take a way of their own on CPUs
        program = torch.onnx.export(
            plan.module,
            plan.inputs(plan.trials[0]),
            dynamo=True,
            external_data=False,
            dynamic_shapes=plan.dynamic,
            input_names=list(plan.shapes),
            output_names=[plan.output],
            verbose=False,
        )
        assert program is not None
        buffer = io.BytesIO()
        import onnx

        onnx.save_model(program.model_proto, buffer)
    return buffer.getvalue()


def _with_metadata(content: bytes, header: NativeHeader) -> bytes:
    import onnx

    model = onnx.load_model_from_string(content)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, header_metadata(header))
    model.producer_name = "labels4free"
    for node in model.graph.node:  # stack traces of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _largest_difference(plan: _Plan, content: bytes) -> float:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    worst = 0.0
    for seed, sizes in enumerate(plan.trials, start=1):
        inputs = plan.inputs(sizes, seed)
        with torch.inference_mode():
            expected: NDArray[np.float32] = plan.module(*inputs).numpy()
        try:
            found = session.run(None, {name: x.numpy() for name, x in zip(plan.shapes, inputs, strict=True)})[0]
        except Exception as error:  # onnxruntime's classes have no common base but Exception
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"onnxruntime cannot run what was exported with {dict(sizes)}; nothing was written. {reason}"
            ) from error
        if found.shape != expected.shape:
            return float("inf")
        worst = max(worst, float(np.abs(found - expected).max() / max(np.abs(expected).max(), 1e-6)))
    return worst


def _require_libraries() -> None:
    from importlib.util import find_spec

    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f"Exporting needs {', '.join(missing)}: pip install {' '.join(missing)}.")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on itself to itself: they come as warnings, as log lines and as prints."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
