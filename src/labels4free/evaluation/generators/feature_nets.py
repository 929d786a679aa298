"""The networks whose features generators are measured by, and what a figure may therefore be called.

"FID" and "KID" alone are figures of Inception, which nobody may mistake others for: those carry their network's name.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Self

import torch
from torch.nn import functional as F

from labels4free.checkpoints.foreign.feature_networks import metric_network_from_file
from labels4free.checkpoints.loading import load_discriminator, resolve_device
from labels4free.checkpoints.model_zoo import fetch
from labels4free.checkpoints.native import read_tensors
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import ConfigError
from labels4free.metrics.perceptual import perceptual_distance, unit_distance, unit_maps
from labels4free.networks.efficientnet_lite import FEATURES, SIDE, EfficientNetLite0
from labels4free.networks.inception import FEATURES as INCEPTION_FEATURES
from labels4free.networks.inception import InceptionV3
from labels4free.networks.lpips import Lpips

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from labels4free.evaluation.generators.recipes import Kind
    from labels4free.networks.discriminator import Discriminator

EFFICIENTNET, DISCRIMINATOR = "efficientnet-lite0", "discriminator"
_WHAT: dict[Kind, str] = {
    "fid": "a Fréchet distance",
    "kid": "a kernel distance",
    "pr": "precision and recall",
    "is": "an inception score",
    "ppl": "a path length",
}
_SERVE: dict[Kind, str] = {
    **dict.fromkeys(("fid", "kid", "pr"), f"{EFFICIENTNET}, {DISCRIMINATOR} or Inception"),
    "is": f"{EFFICIENTNET} or Inception, which know classes",
    "ppl": f"{EFFICIENTNET} or LPIPS",
}
_VERSION = 1  # counts changes of what is done with an image before the network sees it


class FeatureNet:
    """Images [N, 3, R, R] in [-1, 1] to feature vectors [N, width], float32.

    Args:
        network: In evaluation mode, without gradients.

    Attributes:
        title: What its figures are named by.
        width: Numbers of a feature vector.
        kinds: Of metrics that it serves.
        identity: Says which weights and which preparation of images these are, for what is kept of them.
    """

    title: str
    width: int
    kinds: tuple[Kind, ...]

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.identity = f"{self.title} {_VERSION} {state_hash(network)}"

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.network.parameters()).device

    def figure(self, kind: str) -> str:
        """The name of a figure of these features: ``FD-EffLite0``."""
        words = {"fid": "FD", "kid": "KID", "is": "IS", "ppl": "PPL"}
        return f"{words.get(kind, kind.capitalize())}-{self.title}"

    def require(self, kind: Kind) -> None:
        """See whether the network has what a kind of metric needs.

        Raises:
            ConfigError: If not.
        """
        if kind not in self.kinds:
            raise ConfigError(f"{self.title} cannot give {_WHAT[kind]}; take {_SERVE[kind]}.")

    def features(self, images: Tensor) -> Tensor:
        """Feature vectors of images on this network's device, if it has them."""
        raise NotImplementedError

    def logits(self, features: Tensor) -> Tensor:
        """Class logits [N, C] that belong to feature vectors, if it knows classes."""
        raise NotImplementedError

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        """Perceptual distances [N] of pairs of images, for path lengths, if it has them."""
        raise NotImplementedError

    def distance_to(self, target: Tensor) -> Callable[[Tensor], Tensor]:
        """From images to their perceptual distances [N] to ``target`` [1, 3, R, R], with gradients, if it has them."""
        return lambda images: self.distance(images, target.expand_as(images))


class EfficientNetFeatures(FeatureNet):
    """EfficientNet-Lite0's 1,280 features before its classes.

    An image is resized to 224x224 by bicubic interpolation that averages where it shrinks (PIL's filter), and limited
    to [-1, 1] again. For distances it is taken as it is, as LPIPS does.
    """

    title, width, kinds = "EffLite0", FEATURES, ("fid", "kid", "pr", "is", "ppl")
    network: EfficientNetLite0

    @classmethod
    def load(cls) -> Self:
        """With the published weights, which are fetched if they are not in the cache."""
        network = EfficientNetLite0()
        network.load_state_dict(read_tensors(fetch(EFFICIENTNET), "feature_network"))
        loaded = cls(network.eval().requires_grad_(False))  # its identity is that of the published weights
        network.fuse()
        return loaded

    def features(self, images: Tensor) -> Tensor:
        if images.shape[-1] != SIDE:
            images = F.interpolate(images, size=(SIDE, SIDE), mode="bicubic", antialias=True, align_corners=False)
        return self.network.features(images.clamp(-1, 1))

    def logits(self, features: Tensor) -> Tensor:
        return self.network.classify(features)

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        maps = self.network.maps(torch.cat((one, other)))
        return perceptual_distance([m[: len(one)] for m in maps], [m[len(one) :] for m in maps])

    def distance_to(self, target: Tensor) -> Callable[[Tensor], Tensor]:
        return _distance_to(self.network.maps, target)


class InceptionFeatures(FeatureNet):
    """Inception-v3's 2,048 features, of which FID and KID are published; its weights are the user's."""

    title, width, kinds = "Inception", INCEPTION_FEATURES, ("fid", "kid", "pr", "is")
    network: InceptionV3

    def figure(self, kind: str) -> str:
        return kind.upper() if kind in ("fid", "kid", "is") else super().figure(kind)

    def features(self, images: Tensor) -> Tensor:
        return self.network.features(images)

    def logits(self, features: Tensor) -> Tensor:
        return self.network.classify(features)


class LpipsDistance(FeatureNet):
    """LPIPS of VGG16, of which PPL is published; its weights are the user's."""

    title, width, kinds = "LPIPS", 0, ("ppl",)
    network: Lpips

    def figure(self, kind: str) -> str:
        return "PPL" if kind == "ppl" else super().figure(kind)

    def distance(self, one: Tensor, other: Tensor) -> Tensor:
        distances: Tensor = self.network(one, other)
        return distances

    def distance_to(self, target: Tensor) -> Callable[[Tensor], Tensor]:
        with torch.no_grad():
            known = self.network.unit_maps(target)
        return lambda images: self.network.distance(self.network.unit_maps(images), known)


class DiscriminatorFeatures(FeatureNet):
    """The last maps of the generator's own discriminator, averaged over the image: for watching a training only.

    It was trained to tell these very images from real ones, and another training's is another measure.
    """

    title, kinds = "D", ("fid", "kid", "pr")
    network: Discriminator

    def __init__(self, network: Discriminator) -> None:
        self.width = network.channels[4]
        super().__init__(network)

    def features(self, images: Tensor) -> Tensor:
        return self.maps(images)[-1].mean(dim=(2, 3))

    def distance_to(self, target: Tensor) -> Callable[[Tensor], Tensor]:
        return _distance_to(self.maps, target)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The maps behind each block, from half of the discriminator's size down to 4 pixels.

        Raises:
            ConfigError: If the images have not the discriminator's size or a multiple of it.
        """
        side = self.network.resolution
        factor = images.shape[-1] // side
        if images.shape[-1] != factor * side or not factor:
            raise ConfigError(
                f"This discriminator looks at images of {side}x{side} pixels or a multiple; these have "
                f"{images.shape[-1]}."
            )
        x = F.avg_pool2d(images, factor) if factor > 1 else images
        found = []
        for layer in self.network.convs:
            x = layer(x)
            found.append(x)
        return found[1:]


def _distance_to(maps: Callable[[Tensor], list[Tensor]], target: Tensor) -> Callable[[Tensor], Tensor]:
    """Perceptual distances to one image, whose maps are computed once."""
    with torch.no_grad():
        known = unit_maps(maps(target))
    return lambda images: unit_distance(unit_maps(maps(images)), known)


def load_feature_net(name: str, generator: str | None = None, device: str | torch.device = "cpu") -> FeatureNet:
    """Load a network for metrics.

    Args:
        name: ``efficientnet-lite0``, which is fetched; ``discriminator``, the one that the generator was trained
            against; or the user's file of FID's Inception-v3 or of LPIPS, see
            :func:`labels4free.checkpoints.foreign.feature_networks.metric_network_from_file`.
        generator: Zoo name or file of the generator, for ``discriminator``.
        device: Where to put it.

    Raises:
        ConfigError: If there is no such network, or the device cannot be used.
        CheckpointError: If the generator has no discriminator with it, or a file is damaged.
        ModelZooError: If a network cannot be fetched.
    """
    target = resolve_device(device)
    net: FeatureNet
    if name == EFFICIENTNET:
        net = EfficientNetFeatures.load()
    elif name == DISCRIMINATOR:
        if generator is None:
            raise ConfigError("Features of the discriminator need the generator that it belongs to, got none.")
        net = DiscriminatorFeatures(load_discriminator(generator).eval().requires_grad_(False))
    elif Path(name).is_file():
        network = metric_network_from_file(name)
        net = LpipsDistance(network) if isinstance(network, Lpips) else InceptionFeatures(network)
    else:
        raise ConfigError(
            f"No file or features {name!r}: give {EFFICIENTNET}, {DISCRIMINATOR}, or the file of FID's Inception-v3 as "
            "pytorch-fid publishes it, or of LPIPS."
        )
    net.network.to(target)
    return net
