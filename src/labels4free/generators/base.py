"""The contract of a pretrained, frozen generator. Everything that trains masks or samples knows only this."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from labels4free.errors import ConfigError
from labels4free.seeds import CLASSES, sample_seed, series

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from labels4free.types import FeatureSpec, GeneratorOutput

NoiseMode = Literal["fixed", "random", "none"]
Noise = NoiseMode | Sequence[Tensor]
"""Per-layer noise: the maps that ship with the weights, fresh normal draws of the same strength, none, or given maps.

Given maps take the place of the normal draws: one for each of ``feature_specs``, [1 or N, 1, R, R] at its resolution R;
each is multiplied by its layer's strength.
"""


class StyleWeight(NamedTuple):
    """The weight of an affine map from a row of ws to the styles of one layer, which modulate its channels.

    Attributes:
        row: The row of ws that it reads.
        weight: [channels, w_dim], the generator's own tensor; those of one generator act at one common scale.
        rgb_size: Side in pixels of what a to-RGB layer makes; None for any other layer.
    """

    row: int
    weight: Tensor
    rgb_size: int | None = None


class Generator(nn.Module, ABC):
    """A generator whose weights never change: ``z -> map -> ws -> synthesize -> image + features``.

    Every tensor is a buffer, so that no optimiser and no gradient can reach the weights; gradients do flow through to
    ``ws``. Subclasses set the attributes below and implement what is abstract. A family that can be trained has a
    second form for that, but is built and loaded as the frozen one (:meth:`StyleGAN2.unfreeze`).

    Attributes:
        family: Name of the family in ``generators.FAMILIES``.
        z_dim: Length of z.
        c_dim: Number of classes of a class-conditional generator, 0 for any other.
        w_dim: Length of one row of ws.
        num_ws: Rows of ws, one for each separately styled layer.
        resolution: Side of the image, in pixels.
        feature_specs: Every tapped map, coarse to fine.
        background_modes: Ways of rendering the image without its object: name -> what is removed.
        default_background: The mode that serves best for this family.
        w_avg: [w_dim], the mean of mapped latents; truncation pulls towards it.
    """

    family: str
    z_dim: int
    c_dim: int = 0
    w_dim: int
    num_ws: int
    resolution: int
    feature_specs: tuple[FeatureSpec, ...]
    background_modes: Mapping[str, str]
    default_background: str
    w_avg: Tensor

    @classmethod
    @abstractmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the generator, weights uninitialised, from what :meth:`config` returned."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Everything but the weights that :meth:`from_config` needs, as JSON values."""

    @abstractmethod
    def _map(self, z: Tensor, labels: Tensor | None) -> Tensor:
        """Map z [N, z_dim] (and labels [N, c_dim], if there are classes) to w [N, w_dim], without truncation."""

    @abstractmethod
    def synthesize(
        self, ws: Tensor, *, noise: Noise = "fixed", background: str | None = None, rng: torch.Generator | None = None
    ) -> GeneratorOutput:
        """Render an image and its features.

        Args:
            ws: [N, num_ws, w_dim].
            noise: Per-layer noise, see :data:`Noise`.
            background: None for the whole image, or one of ``background_modes`` for the image without its object.
            rng: Source of the random noise; None means PyTorch's global one. Only ``noise="random"`` draws from it.

        Returns:
            The image [N, 3, resolution, resolution] and one feature map per entry of ``feature_specs``. Shapes are the
            same for every background mode.

        Raises:
            ConfigError: If ws has another shape, or the noise or background mode is not one of the named ones.
        """

    @abstractmethod
    def style_weights(self) -> list[StyleWeight]:
        """Which weights modulate which layer: every affine map that reads a row of ws, in running order."""

    def map(
        self,
        z: Tensor,
        truncation_psi: float = 1.0,
        *,
        truncation_cutoff: int | None = None,
        labels: Tensor | None = None,
    ) -> Tensor:
        """Map latents to styles: ``w_avg + truncation_psi * (w - w_avg)`` in every row, or in the coarse ones only.

        Args:
            z: [N, z_dim], standard normal.
            truncation_psi: 1 for the generator's full variety, towards 0 for its average image.
            truncation_cutoff: Rows that are truncated, counted from the coarsest; None means all.
            labels: [N, c_dim], one-hot; for class-conditional generators, and only for them.

        Returns:
            ws, [N, num_ws, w_dim].

        Raises:
            ConfigError: If z or the labels have another shape, or labels are missing or not wanted.
        """
        if z.ndim != 2 or z.shape[1] != self.z_dim:
            raise ConfigError(f"z must have shape [N, {self.z_dim}], got {list(z.shape)}.")
        if labels is None and self.c_dim:
            raise ConfigError(f"This generator has {self.c_dim} classes: give labels of shape [N, {self.c_dim}].")
        if labels is not None and (not self.c_dim or labels.shape != (len(z), self.c_dim)):
            wanted = f"labels of shape [{len(z)}, {self.c_dim}]" if self.c_dim else "no labels, since it has no classes"
            raise ConfigError(f"This generator takes {wanted}, got {list(labels.shape)}.")
        w = self._map(z, labels)
        if truncation_psi == 1.0:
            return w.unsqueeze(1).expand(-1, self.num_ws, -1)
        truncated = torch.lerp(self.w_avg, w, truncation_psi)
        if truncation_cutoff is None:
            return truncated.unsqueeze(1).expand(-1, self.num_ws, -1)
        coarse = torch.arange(self.num_ws, device=w.device) < truncation_cutoff
        return torch.where(coarse[:, None], truncated.unsqueeze(1), w.unsqueeze(1))

    def check_synthesize_arguments(self, ws: Tensor, noise: Noise, background: str | None) -> None:
        """Raise :class:`ConfigError` where the arguments of :meth:`synthesize` do not fit this generator."""
        if ws.ndim != 3 or ws.shape[1:] != (self.num_ws, self.w_dim):
            raise ConfigError(f"ws must have shape [N, {self.num_ws}, {self.w_dim}], got {list(ws.shape)}.")
        if isinstance(noise, str):
            if noise not in ("fixed", "random", "none"):
                raise ConfigError(f"noise must be fixed, random, none or a map for each layer, got {noise!r}.")
        else:
            self._check_noise_maps(noise, len(ws))
        check_rendering(self, background=background)

    def noise_by_layer(self, noise: Noise) -> Iterator[NoiseMode | Tensor]:
        """What each layer gets of a checked ``noise``, coarse to fine."""
        return iter([noise] * len(self.feature_specs) if isinstance(noise, str) else noise)

    def draw_ws(
        self,
        seed: int,
        index: int,
        truncation_psi: float = 1.0,
        *,
        truncation_cutoff: int | None = None,
        label: int | None = None,
    ) -> Tensor:
        """Draw one sample's styles, which depend on (seed, index) alone, whatever the batch or device.

        Args:
            seed: Seed of the whole series.
            index: Number of the sample in it.
            truncation_psi: As for :meth:`map`.
            truncation_cutoff: As for :meth:`map`.
            label: Class of the sample; None draws one of a class-conditional generator's classes, all alike.

        Returns:
            ws, [1, num_ws, w_dim].

        Raises:
            ConfigError: If the generator has no such class.
        """
        device = self.w_avg.device
        labels = None
        if label is not None and not 0 <= label < self.c_dim:
            has = f"classes 0 to {self.c_dim - 1}" if self.c_dim else "no classes"
            raise ConfigError(f"This generator has {has}, got label {label}.")
        if self.c_dim:
            chosen = sample_label(self.c_dim, seed, index) if label is None else label
            labels = torch.eye(self.c_dim, device=device)[chosen : chosen + 1]
        z = sample_z(self.z_dim, seed, index).to(device).unsqueeze(0)
        return self.map(z, truncation_psi, truncation_cutoff=truncation_cutoff, labels=labels)

    def _check_noise_maps(self, maps: Sequence[Tensor], count: int) -> None:
        sizes = [spec.resolution for spec in self.feature_specs]
        if len(maps) != len(sizes):
            raise ConfigError(f"Noise maps are needed for {len(sizes)} layers, got {len(maps)}.")
        for index, (given, size) in enumerate(zip(maps, sizes, strict=True)):
            if given.ndim != 4 or given.shape[0] not in (1, count) or given.shape[1:] != (1, size, size):
                raise ConfigError(
                    f"The noise map of layer {index} must have shape [1 or {count}, 1, {size}, {size}], "
                    f"got {list(given.shape)}."
                )


def mix_styles(coarse: Tensor, fine: Tensor, crossover: int) -> Tensor:
    """Style mixing: the coarse layers of one sample with the fine layers of another (arXiv 1812.04948, section 3.1).

    Args:
        coarse: ws [N, num_ws, w_dim] that give the rows before ``crossover``.
        fine: ws of the same shape that give the rest.
        crossover: First row of ``fine``, in [0, num_ws].

    Returns:
        ws, [N, num_ws, w_dim].

    Raises:
        ConfigError: If the shapes differ or there is no such row.
    """
    if coarse.ndim != 3 or coarse.shape != fine.shape or not 0 <= crossover <= coarse.shape[1]:
        raise ConfigError(
            f"Style mixing needs two ws of one shape and a crossover in it, got {list(coarse.shape)}, "
            f"{list(fine.shape)} and {crossover}."
        )
    return torch.cat((coarse[:, :crossover], fine[:, crossover:]), dim=1)


def noise_of_sample(noise: Noise, index: int) -> Noise:
    """What of ``noise`` belongs to one sample of a batch."""
    if isinstance(noise, str):
        return noise
    return [given if len(given) == 1 else given[index : index + 1] for given in noise]


def sample_z(z_dim: int, seed: int, index: int) -> Tensor:
    """Draw the latent of one sample, which depends on (seed, index) alone, whatever the batch or device.

    Returns:
        [z_dim], standard normal, float32, on the CPU.
    """
    return torch.randn(z_dim, generator=_rng(seed, index))


def sample_label(c_dim: int, seed: int, index: int) -> int:
    """Draw the class of one sample out of ``c_dim``, which depends on (seed, index) alone."""
    return int(torch.randint(c_dim, (), generator=_rng(series(seed, CLASSES), index)))


def _rng(seed: int, index: int) -> torch.Generator:
    return torch.Generator().manual_seed(sample_seed(seed, index))


def check_rendering(
    generator: Generator,
    *,
    size: int | None = None,
    background: str | None = None,
    label: int | None = None,
    also: Sequence[str] = (),
) -> None:
    """See whether a generator can render what settings ask for; None asks for nothing.

    Args:
        generator: The generator.
        size: Side of the pictures in pixels.
        background: A background mode.
        label: A class.
        also: Words for backgrounds that the caller knows, for the message.

    Raises:
        ConfigError: If it cannot.
    """
    if size is not None and generator.resolution % size:
        raise ConfigError(f"size must divide the generator's resolution {generator.resolution}, got {size}.")
    if background is not None and background not in generator.background_modes:
        modes = ", ".join([*also, *generator.background_modes])
        raise ConfigError(f"Unknown background mode {background!r}; {generator.family} has {modes}.")
    if label is not None and label >= generator.c_dim:
        has = f"classes 0 to {generator.c_dim - 1}" if generator.c_dim else "no classes, so leave the label out"
        raise ConfigError(f"This generator has {has}; got label {label}.")
