"""``labels4free export``: a network for other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg


def run(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    out: Annotated[Positional[Path], arg(metavar="OUT.onnx")],
) -> None:
    """Export a segmenter or an alpha network as ONNX, checked against PyTorch before it is written.

    "segment --model OUT.onnx" runs a segmenter with onnxruntime, where PyTorch is not installed.

    Args:
        model: A segmenter ("faces", which ships, a file, or a run folder) or an alpha network (a file, a run folder, or
            the zoo name of a generator that one ships for).
        out: File to write, replaced if it is there.
    """
    from labels4free.errors import ConfigError

    if out.suffix.lower() != ".onnx":
        raise ConfigError(f"The file to write must end in .onnx, got {out}.")
    from labels4free.export import export_onnx

    done = export_onnx(model, out)
    size = out.stat().st_size / 1e6
    print(f"Wrote {out} ({done.kind.replace('_', ' ')}, {size:.1f} MB).")
    for name, shape in done.inputs.items():
        print(f"  {name}: {' x '.join(str(n) for n in shape)}")
    print(f"Largest difference from PyTorch: {done.largest_difference:.1e} of the largest value.")
