"""Mixed precision: what is trained computes in 16 bits where the device is fast at it, and keeps 32-bit weights.

Alpha networks, discriminators and a generator that is trained run under autocast; logits, everything behind them, the
R1 penalty and path lengths, gradients of gradients, are in float32. So is a frozen generator: its images are the data.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

from labels4free.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from labels4free.types import FeatureSpec

N = TypeVar("N", bound=nn.Module)

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class Precision:
    """In what type a run computes on a device.

    ``auto`` is bfloat16 on CUDA devices that have it (compute capability 8.0 and above), float16 on other CUDA devices,
    and float32 everywhere else. A CPU takes bfloat16 only if asked for by name: all can, but most emulate it, tens of
    times slower than float32.

    Args:
        name: The setting: auto, float32, bfloat16 or float16.
        device: Where it trains.

    Attributes:
        dtype: The type.
        device: The device.

    Raises:
        ConfigError: If the device cannot.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.device = device
        able = _able(device)
        if name == "auto":
            name = "float32" if device.type != "cuda" else "bfloat16" if "bfloat16" in able else "float16"
        if name not in able:
            raise ConfigError(
                f"precision={name} cannot be had on the device {device}, which has {', '.join(able)}; choose one of "
                "them, or auto."
            )
        self.dtype = _DTYPES[name]

    @property
    def mixed(self) -> bool:
        """Whether anything is computed in fewer bits than float32."""
        return self.dtype != torch.float32

    def autocast(self, *, enabled: bool = True) -> AbstractContextManager[object]:
        """Networks called in this context compute in :attr:`dtype`, if ``enabled``."""
        if not (self.mixed and enabled):
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)

    def logits(self, network: Callable[[Tensor], Tensor], images: Tensor, *, exact: bool = False) -> Tensor:
        """What a network makes of images, float32; computed in it, too, where it is to be ``exact``."""
        with self.autocast(enabled=not exact):
            logits = network(images)
        return logits.float()

    def network(self, network: N) -> N:
        """The network, computing in :attr:`dtype` wherever it is called from; itself where that is float32."""
        return _Mixed(network, self) if self.mixed else network  # type: ignore[return-value]  # all that a caller needs

    def scaler(self) -> torch.amp.GradScaler:
        """What keeps the gradients of one optimiser within float16's range; it does nothing for the other types."""
        return torch.amp.GradScaler(self.device.type, enabled=self.dtype == torch.float16)


class _Mixed(nn.Module):
    def __init__(self, network: Any, precision: Precision) -> None:
        super().__init__()
        self.network, self.precision = network, precision

    def check_fits(self, feature_specs: Sequence[FeatureSpec]) -> None:
        self.network.check_fits(feature_specs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        with self.precision.autocast():
            alpha: Tensor = self.network(features)
        return alpha


def cpu_has_bfloat16() -> bool:
    """Whether this machine's CPU computes bfloat16 in hardware (AVX-512 BF16, AMX) and is not slower for it."""
    if not hasattr(torch.cpu, "get_capabilities"):  # older than what it can be asked by
        return False
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def _able(device: torch.device) -> tuple[str, ...]:
    if device.type == "cuda":
        # Without emulation: PyTorch would otherwise say yes for every device.
        return tuple(_DTYPES) if torch.cuda.is_bf16_supported(including_emulation=False) else ("float32", "float16")
    return ("float32", "bfloat16") if device.type == "cpu" else ("float32",)
