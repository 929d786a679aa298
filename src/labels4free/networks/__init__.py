"""The networks that are trained, and those that look at images, each kind by the name in its checkpoints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from labels4free.networks.discriminator import Discriminator
from labels4free.networks.efficientnet_lite import EfficientNetLite0
from labels4free.networks.merge_network import MergeNetwork
from labels4free.networks.paper_network import PaperNetwork
from labels4free.networks.segmenter import SegmenterNetwork

if TYPE_CHECKING:
    from labels4free.networks.alpha_network import AlphaNetwork

ALPHA_NETWORKS: dict[str, type[AlphaNetwork]] = {kind.family: kind for kind in (MergeNetwork, PaperNetwork)}
DISCRIMINATORS: dict[str, type[Discriminator]] = {"stylegan2": Discriminator}
SEGMENTERS: dict[str, type[SegmenterNetwork]] = {SegmenterNetwork.family: SegmenterNetwork}
FEATURE_NETWORKS: dict[str, type[EfficientNetLite0]] = {EfficientNetLite0.family: EfficientNetLite0}
