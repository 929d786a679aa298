"""Pretrained, frozen generators, one module a family, all of one contract (``base.py``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labels4free.generators.mobile_stylegan import MobileStyleGAN

if TYPE_CHECKING:
    from labels4free.generators.base import Generator

FAMILIES: dict[str, type[Generator]] = {MobileStyleGAN.family: MobileStyleGAN}
