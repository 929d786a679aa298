"""Pretrained, frozen generators, one module a family, all of one contract (``base.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labels4free.generators.mobile_stylegan import MobileStyleGAN
from labels4free.generators.stylegan2 import StyleGAN2

if TYPE_CHECKING:
    from labels4free.generators.base import Generator

FAMILIES: dict[str, type[Generator]] = {MobileStyleGAN.family: MobileStyleGAN, StyleGAN2.family: StyleGAN2}
