"""Directions in w along which a generator's images change, without labels: SeFa's factorisation, and PCA.

SeFa (Shen and Zhou 2021, arXiv 2007.06600): the directions that the weights which turn w into styles stretch most, in
closed form. GANSpace (Härkönen et al. 2020, arXiv 2004.02546): those along which mapped latents vary most.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch

from labels4free.checkpoints.foreign.rosinality_factor import read_factor
from labels4free.checkpoints.native import read_native_header, read_tensors, write_native
from labels4free.checkpoints.state_hash import state_hash
from labels4free.errors import CheckpointError, ConfigError
from labels4free.seeds import MAIN_AXES, generator_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

    from labels4free.checkpoints.native import NativeHeader
    from labels4free.generators.base import Generator

Method = Literal["sefa", "pca"]
ToRgbLayers = Literal["first", "none", "all"]

DIRECTIONS = "directions.safetensors"
"""Name of the native file in a folder of directions."""
KIND = "directions"
"""Kind of the native files."""
PCA_SAMPLES = 20_000
"""Mapped latents that PCA looks at; GANSpace takes a million."""

_BATCH = 1000


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions in w, which move some rows of ws and leave the others.

    Attributes:
        method: How they were found: ``sefa`` or ``pca``.
        vectors: [K, w_dim], float32, on the CPU: each of length 1, and at right angles to the others. Its largest
            number is positive, which settles the sign; those of a ``factor.pt`` are as they are there.
        layers: Rows of ws that they move.
        values: [K], falling, how strong each is: sefa: its singular value; pca: the standard deviation of w along it.
            None where it is not known.
        options: What else they depend on, by name, as JSON values.
    """

    method: Method
    vectors: Tensor
    layers: tuple[int, ...]
    values: Tensor | None = None
    options: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.vectors)

    def step(self, number: int, num_ws: int) -> Tensor:
        """What one degree of a direction adds to ws: the direction in each of its layers, 0 in the others.

        Args:
            number: Of the direction, from 0.
            num_ws: Rows of the generator's ws.

        Returns:
            [num_ws, w_dim].

        Raises:
            ConfigError: If there is no such direction.
        """
        if not 0 <= number < len(self):
            raise ConfigError(f"There are directions 0 to {len(self) - 1}, got {number}.")
        step = torch.zeros(num_ws, self.vectors.shape[1])
        step[list(self.layers)] = self.vectors[number]
        return step


def sefa(generator: Generator, layers: Sequence[int] = (), to_rgb: ToRgbLayers = "first") -> Directions:
    """SeFa's closed-form factorisation: right singular vectors of the weights that turn w into styles.

    The weights of all layers stand one above the other, as in rosinality's ``closed_form_factorization.py``, whose
    ``factor.pt`` this equals but for signs.

    Args:
        generator: Of any family.
        layers: Rows of ws whose weights count, and which the directions move; none at all stands for all of them.
        to_rgb: Whether the weights of to-RGB layers count as well. first: that of 4x4 pixels alone, which rosinality's
            code lets pass; none: as the authors of SeFa have it; all.

    Raises:
        ConfigError: If there is no such layer, or nothing but a to-RGB layer reads those asked for.
        CheckpointError: If the weights are not finite numbers.
    """
    rows = check_direction_layers(generator, layers)
    if to_rgb not in get_args(ToRgbLayers):
        raise ConfigError(f"to_rgb must be one of {', '.join(get_args(ToRgbLayers))}, got {to_rgb!r}.")
    counts = {"first": (None, 4), "none": (None,)}.get(to_rgb)
    weights = [
        weight.weight
        for weight in generator.style_weights()
        if weight.row in rows and (counts is None or weight.rgb_size in counts)
    ]
    if not weights:
        raise ConfigError(f"Only a to-RGB layer reads row {rows[0]} of ws: ask for other layers, or for to_rgb 'all'.")
    matrix = torch.cat([weight.detach().to("cpu", torch.float64) for weight in weights])
    _check_finite(matrix)
    _, values, vectors = torch.linalg.svd(matrix, full_matrices=False)
    return Directions("sefa", _signed(vectors), rows, values.float(), {"to_rgb": to_rgb})


@torch.no_grad()
def pca(generator: Generator, layers: Sequence[int] = (), samples: int = PCA_SAMPLES) -> Directions:
    """PCA of w, as in GANSpace: the main axes of mapped latents, which are always the same ones.

    Args:
        generator: Of any family; classes are drawn all alike.
        layers: Rows of ws that the directions move; none at all stands for all of them. The axes do not depend on them.
        samples: Number of latents, from 2.

    Raises:
        ConfigError: If there is no such layer, or there are too few samples.
        CheckpointError: If the mapped latents are not finite numbers.
    """
    rows = check_direction_layers(generator, layers)
    if samples < 2:
        raise ConfigError(f"PCA needs 2 samples or more, got {samples}.")
    width = generator.w_dim
    total, products = torch.zeros(width, dtype=torch.float64), torch.zeros(width, width, dtype=torch.float64)
    for batch in mapped_latents(generator, samples):
        # Less the mean that is known, so that no digits are lost in the products.
        w = (batch - generator.w_avg).to("cpu", torch.float64)
        total += w.sum(0)
        products += w.T @ w
    covariance = (products - torch.outer(total, total) / samples) / (samples - 1)
    _check_finite(covariance)
    variances, axes = torch.linalg.eigh(covariance)
    values = variances.flip(0).clamp(min=0).sqrt().float()
    return Directions("pca", _signed(axes.flip(1).T), rows, values, {"samples": samples})


@torch.no_grad()
def mapped_latents(generator: Generator, samples: int) -> Iterator[Tensor]:
    """So many mapped latents, always the same ones, [N, w_dim] at a time; classes are drawn all alike."""
    rng, device = generator_for(MAIN_AXES), generator.w_avg.device
    for first in range(0, samples, _BATCH):
        count = min(_BATCH, samples - first)
        z, labels = torch.randn(count, generator.z_dim, generator=rng).to(device), None
        if generator.c_dim:
            labels = torch.eye(generator.c_dim)[torch.randint(generator.c_dim, (count,), generator=rng)].to(device)
        yield generator.map(z, labels=labels)[:, 0]


def check_direction_layers(generator: Generator, layers: Sequence[int]) -> tuple[int, ...]:
    """The rows of ws that ``layers`` stands for, rising: none at all stands for all.

    Raises:
        ConfigError: If the generator has no such row.
    """
    last = generator.num_ws - 1
    if wrong := [layer for layer in layers if not 0 <= layer <= last]:
        raise ConfigError(f"This generator has layers 0 to {last}, got layer {wrong[0]}.")
    return tuple(sorted(set(layers))) or tuple(range(generator.num_ws))


def write_directions(path: str | Path, directions: Directions, generator: Generator, name: str | None = None) -> None:
    """Write directions as a native file (kind ``directions``), which knows its generator by its weights.

    Args:
        path: The file; an older one is replaced.
        directions: What to write.
        generator: The generator that they are of.
        name: Its name or file, for messages.

    Raises:
        CheckpointError: If it cannot be written.
    """
    state = {"vectors": directions.vectors}
    if directions.values is not None:
        state["values"] = directions.values
    about = {"name": name, "family": generator.family, "state_hash": state_hash(generator)}
    write_native(
        path,
        kind=KIND,
        family=directions.method,
        config={"layers": list(directions.layers), "options": dict(directions.options)},
        state=state,
        info={"generator": about},
    )


def read_directions(path: str | Path, generator: Generator) -> Directions:
    """Read directions: a native file, or rosinality's ``factor.pt``. Nothing in it is ever executed.

    Args:
        path: The file, or the folder that ``labels4free directions`` wrote. What does not end in ``.pt`` or ``.pth`` is
            read as a native file. A ``factor.pt`` moves all rows of ws, as ``apply_factor.py`` does.
        generator: The generator that they are for.

    Raises:
        CheckpointError: If the file is missing, damaged, something else, or of a generator with other weights. Of whose
            weights a ``factor.pt`` is, it does not say: only the length of its directions can be compared.
    """
    path = Path(path)
    if path.is_dir():
        path = path / DIRECTIONS
    if path.suffix.lower() in (".pt", ".pth"):
        return Directions("sefa", read_factor(path, generator), tuple(range(generator.num_ws)))
    header = read_native_header(path, KIND)
    about = header.info.get("generator")
    about = about if isinstance(about, dict) else {}
    if about.get("state_hash") != state_hash(generator):
        raise CheckpointError(
            f"{path} holds directions of another generator, {about.get('name') or 'without a name'}: its weights are "
            "others. Make them anew: labels4free directions GENERATOR --out DIR."
        )
    try:
        return _built(header, read_tensors(path, KIND), generator)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: what it holds are no directions of this generator.") from error


def _built(header: NativeHeader, state: dict[str, Tensor], generator: Generator) -> Directions:
    """Directions from a native file; ValueError, TypeError or KeyError where it makes no sense."""
    vectors, values, layers = state["vectors"], state.get("values"), header.config["layers"]
    if header.family not in get_args(Method) or not layers or {type(layer) for layer in layers} != {int}:
        raise ValueError
    if vectors.ndim != 2 or vectors.shape[1] != generator.w_dim or not bool(vectors.isfinite().all()):
        raise ValueError
    if not len(vectors) or (values is not None and values.shape != vectors.shape[:1]):
        raise ValueError
    rows = check_direction_layers(generator, layers)
    return Directions(cast("Method", header.family), vectors.float(), rows, values, dict(header.config["options"]))


def _signed(vectors: Tensor) -> Tensor:
    """Rows whose largest number is positive: a singular vector's sign is chance."""
    largest = vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True))
    return (vectors * largest.sign()).float().contiguous()


def _check_finite(values: Tensor) -> None:
    if not bool(values.isfinite().all()):
        raise CheckpointError("The generator's weights are not all finite numbers: it has no directions.")
