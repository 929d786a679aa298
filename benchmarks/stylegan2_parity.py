"""Claim: our StyleGAN2, discriminator and alpha networks give the numbers of the original implementations, to 1e-4.

    python benchmarks/stylegan2_parity.py FIXTURES [--only NAME ...]

FIXTURES is a folder with ``fill.py``, which gives every weight and input by name; with ``*.npz`` in ``rosinality``,
``nvlabs`` and ``alpha``, which hold what the original networks made of them; and with a ``*.describe.json`` beside
each. Errors are relative to the largest value of an array (those of the discriminator's logits and of masks absolute,
since these are about 1). Exits with 1 where one is beyond its tolerance.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from labels4free.generators.base import mix_styles
from labels4free.generators.stylegan2 import StyleGAN2
from labels4free.layered import LayeredGenerator, composite
from labels4free.networks.discriminator import Discriminator, minibatch_stddev
from labels4free.networks.paper_network import PaperNetwork

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from labels4free.types import GeneratorOutput

IMAGE, W, LOGITS = 1e-4, 1e-5, 2e-5
"""Tolerances: images and feature maps, styles (both relative); logits and masks (absolute)."""

GENERATORS = ("generator_256_m2", "generator_256_m1", "generator_512_m2", "generator_1024_m2")
VARIANTS = ("psi1.0_fg", "psi0.7_fg", "psi1.0_bg", "psi0.7_bg")
NVIDIA_SEEDS = {"ada_uncond": 101, "ada_cond": 102, "ada_fp16_clamp": 103}
_BG_EXTRACTOR = {"conv_fns0": "first", "conv_fns1": "second", "conv_merge_fns": "merges"}
_CORNER, _IMAGE_CORNER = 4, 8


@dataclass(frozen=True)
class Row:
    """One comparison: the largest error of a quantity, which may be at most ``tolerance``."""

    quantity: str
    error: float
    tolerance: float

    @property
    def fraction(self) -> float:
        """The fraction of the tolerance that the error takes; infinite for a NaN."""
        return float("inf") if math.isnan(self.error) else self.error / self.tolerance

    @property
    def passed(self) -> bool:
        """Whether the error is within the tolerance."""
        return self.fraction <= 1


class Fixtures:
    """The folder: rules that fill tensors, descriptions, expected arrays."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("fixtures_fill", folder / "fill.py")
        assert spec is not None
        assert spec.loader is not None
        self.fill = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.fill)

    def describe(self, name: str) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.folder / f"{name}.describe.json").read_text(encoding="utf-8"))
        return result

    def arrays(self, name: str, ending: str = ".npz") -> dict[str, np.ndarray]:
        with np.load(self.folder / f"{name}{ending}") as arrays:
            return dict(arrays)

    def state(self, name: str) -> dict[str, torch.Tensor]:
        return {key: torch.from_numpy(value) for key, value in self.fill.state(self.describe(name)).items()}

    def latents(self, seed: int, count: int, z_dim: int = 512) -> torch.Tensor:
        return torch.from_numpy(self.fill.latents(seed, count, z_dim))

    @property
    def truncation_latent(self) -> torch.Tensor:
        return 0.5 * torch.from_numpy(self.fill.noise("truncation_latent", (1, 512)))[0]


def error_of(ours: torch.Tensor, expected: np.ndarray, *, relative: bool = True) -> float:
    """Largest difference; relative to the largest value that is expected. Infinite where shapes differ."""
    if ours.shape != expected.shape:
        return float("inf")
    difference = np.abs(ours.numpy().astype(np.float64) - expected).max()
    return float(difference / np.abs(expected).max() if relative else difference)


def statistics(x: torch.Tensor, dim: tuple[int, ...] | None = None) -> torch.Tensor:
    """Mean, population standard deviation and largest absolute value, in the last axis."""
    x = x.double()
    return torch.stack([x.mean(dim=dim), x.std(dim=dim, correction=0), x.abs().amax(dim=dim or ())], dim=-1)


# Generators


def our_generator_key(key: str) -> str | None:
    """The name that rosinality's tensor ``key`` has here; None for FIR kernels, which are constants.

    Written from rosinality/stylegan2-pytorch ``model.py`` alone, so that it also tells whether a converter is right.
    """
    if key.endswith(".kernel"):
        return None
    if key == "input.input":
        return "constant"
    if match := re.fullmatch(r"style\.(\d+)\.(\w+)", key):
        return f"mapping.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"noises\.noise_(\d+)", key):
        layer, rest = int(match[1]), "noise"
    elif match := re.fullmatch(r"(?:conv1|convs\.(\d+))\.(.+)", key):
        layer, rest = 0 if match[1] is None else int(match[1]) + 1, match[2]
    elif match := re.fullmatch(r"to_rgb(?:1|s\.(\d+))\.(.+)", key):
        size = 4 if match[1] is None else 8 << int(match[1])
        return f"blocks.b{size}.to_rgb.{_in_layer(match[2])}"
    else:
        raise ValueError(f"Unknown tensor {key}.")
    size = 2 ** ((layer + 5) // 2)
    return f"blocks.b{size}.conv{(layer + 1) % 2 if layer else 1}.{_in_layer(rest)}"


def _in_layer(rest: str) -> str:
    names = {"noise.weight": "noise_strength", "activate.bias": "bias", "conv.weight": "weight"}
    return names.get(rest, rest.replace("conv.modulation.", "affine."))


def build_generator(fixtures: Fixtures, name: str) -> StyleGAN2:
    """The generator of ``rosinality/{name}``, filled: every tensor used, every tensor given."""
    renamed = {our_generator_key(key): value for key, value in fixtures.state(f"rosinality/{name}").items()}
    source = {key: value for key, value in renamed.items() if key is not None}
    source["w_avg"] = fixtures.truncation_latent  # the state has none
    kernels = {key: re.fullmatch(r"blocks\.b(\d+)\.conv1\.weight", key) for key in source}
    generator = StyleGAN2({int(match[1]): source[key].shape[1] for key, match in kernels.items() if match})
    _load(generator, source)
    return generator


def _load(generator: StyleGAN2, source: dict[str, torch.Tensor]) -> None:
    """Load every tensor; shapes may differ by axes of length 1 alone."""
    for key, value in generator.state_dict().items():
        if [n for n in value.shape if n > 1] == [n for n in source[key].shape if n > 1]:
            source[key] = source[key].reshape(value.shape)
    generator.load_state_dict(source)


def compare_generator(fixtures: Fixtures, name: str, variants: Iterable[str] = VARIANTS) -> Iterator[Row]:
    """All arrays of ``rosinality/{name}``: styles, images, every feature map, in foreground and background mode."""
    describe, expected = fixtures.describe(f"rosinality/{name}"), fixtures.arrays(f"rosinality/{name}")
    generator = build_generator(fixtures, name)
    z = fixtures.latents(10 * describe["size"] + describe["channel_multiplier"], len(expected["z"]))
    yield Row("w", error_of(generator.map(z)[:, 0], expected["w"]), W)
    for variant in variants:
        settings = describe["variants"][variant]
        arrays = {key.partition("/")[2]: value for key, value in expected.items() if key.startswith(f"{variant}/")}
        ws = generator.map(z, settings["truncation"])
        background = generator.default_background if settings["back"] else None
        yield Row(f"{variant} w", error_of(ws[:, 0], arrays["w_used"]), W)
        yield from _compare_output(generator.synthesize(ws, background=background), arrays, settings, variant)


def _compare_output(
    output: GeneratorOutput, arrays: dict[str, Any], settings: dict[str, Any], variant: str
) -> Iterator[Row]:
    """Image and features against their strided parts, corners and statistics."""
    step = settings["image_stride"]
    yield Row(f"{variant} image", error_of(output.image[:, :, ::step, ::step], arrays["image"]), IMAGE)
    corner = output.image[:, :, -_IMAGE_CORNER:, -_IMAGE_CORNER:]
    yield Row(f"{variant} image corner", error_of(corner, arrays["image_corner"]), IMAGE)
    yield Row(f"{variant} image statistics", error_of(statistics(output.image), arrays["image_stats"]), IMAGE)
    channels = statistics(output.image, dim=(2, 3))
    yield Row(f"{variant} image channel statistics", error_of(channels, arrays["image_channel_stats"]), IMAGE)
    count = len(settings["features"])  # the original hands out the finest maps only
    for k, (f, strides) in enumerate(zip(output.features[-count:], settings["features"], strict=True)):
        step, name = strides["space_stride"], f"{variant} feature {k:02}"
        part = f[:, :: strides["channel_stride"]]
        yield Row(name, error_of(part[:, :, ::step, ::step], arrays[f"feature_{k:02}"]), IMAGE)
        corner = part[:, :, -_CORNER:, -_CORNER:]
        yield Row(f"{name} corner", error_of(corner, arrays[f"feature_{k:02}_corner"]), IMAGE)
        yield Row(f"{name} statistics", error_of(statistics(f), arrays["feature_stats"][k]), IMAGE)


def compare_latents(fixtures: Fixtures) -> Iterator[Row]:
    """Mean latent, style mixing and styles that differ from row to row, at 256 pixels."""
    expected = fixtures.arrays("rosinality/latents_256_m2")
    generator = build_generator(fixtures, "generator_256_m2")
    mean = generator.map(fixtures.latents(7, 4096))[:, 0].mean(dim=0, keepdim=True)
    yield Row("w mean of 4096", error_of(mean, expected["mean_latent_4096"]), W)
    first, second = (generator.map(fixtures.latents(seed, 1)) for seed in (11, 12))
    cases = {f"mixing_inject{k}": mix_styles(first, second, k) for k in (1, 5, 13)}
    cases["wplus"] = torch.cat((first[:, :7], second[:, 7:]), dim=1)
    yield Row("w of each row", error_of(cases["wplus"], expected["wplus/w"]), W)
    for name, ws in cases.items():
        image = generator.synthesize(ws).image
        yield Row(f"{name} image", error_of(image[:, :, ::3, ::3], expected[f"{name}/image"]), IMAGE)
        yield Row(f"{name} image statistics", error_of(statistics(image), expected[f"{name}/image_stats"]), IMAGE)


# NVIDIA's generators: conditioned, clamped, truncated by a cutoff


def build_nvidia_generator(fixtures: Fixtures, name: str, network: str) -> StyleGAN2:
    """The generator ``network`` of ``nvlabs/{name}``, filled by name, apart from any reader of files."""
    describe = fixtures.describe(f"nvlabs/{name}")
    kwargs, filled = describe["init_kwargs"]["G"], fixtures.fill.state(describe["networks"][network])
    filled = {key: np.asarray(value) for key, value in filled.items() if not key.endswith("resample_filter")}
    source = {our_nvidia_key(key): torch.from_numpy(value) for key, value in filled.items()}
    widths = {int(m[1]): v.shape[0] for k, v in filled.items() if (m := re.search(r"b(\d+)\.conv1\.weight", k))}
    options = {key: kwargs[key] for key in ("z_dim", "w_dim", "c_dim")}
    layers = [kwargs["w_dim"]] * kwargs["mapping_kwargs"]["num_layers"]
    clamp = kwargs["synthesis_kwargs"]["conv_clamp"]
    generator = StyleGAN2(widths, mapping_widths=layers, conv_clamp=clamp, **options)
    _load(generator, source)
    return generator


def our_nvidia_key(key: str) -> str:
    """The name that NVIDIA's tensor ``key`` has here."""
    if key == "synthesis.b4.const":
        return "constant"
    key = re.sub(r"^mapping\.(?:fc(?=\d)|(?=w_avg|embed))", lambda m: "mapping." if m[0].endswith("fc") else "", key)
    return key.replace("synthesis.", "blocks.").replace(".torgb.", ".to_rgb.").replace("noise_const", "noise")


def compare_nvidia(fixtures: Fixtures, name: str) -> Iterator[Row]:
    """Styles, images and feature maps of both generators of ``nvlabs/{name}``."""
    kwargs = fixtures.describe(f"nvlabs/{name}")["init_kwargs"]["G"]
    expected = fixtures.arrays(f"nvlabs/{name}", ".expected.npz")
    z = fixtures.latents(NVIDIA_SEEDS[name], 2, kwargs["z_dim"])
    labels = torch.from_numpy(expected["c"][:2]) if "c" in expected else None
    for network in ("G_ema", "G"):
        generator = build_nvidia_generator(fixtures, name, network)
        arrays = {key.partition("/")[2]: value for key, value in expected.items() if key.startswith(f"{network}/")}
        styles = {"const": generator.map(z, labels=labels), "const_psi0.7": generator.map(z, 0.7, labels=labels)}
        styles["const_psi0.5_cutoff4"] = generator.map(z, 0.5, truncation_cutoff=4, labels=labels)
        yield Row(f"{network} w", error_of(styles["const"][:, 0], arrays["w"]), W)
        yield Row(f"{network} w psi0.7", error_of(styles["const_psi0.7"][:, 0], arrays["w_psi0.7"]), W)
        yield Row(f"{network} w cutoff", error_of(styles["const_psi0.5_cutoff4"], arrays["ws_psi0.5_cutoff4"]), W)
        outputs = {f"image_{key}": generator.synthesize(ws) for key, ws in styles.items()}
        outputs["image_none"] = generator.synthesize(styles["const"], noise="none")
        maps = {key: output.image for key, output in outputs.items()}
        features = outputs["image_const"].features
        maps |= {spec.name: f for spec, f in zip(generator.feature_specs, features, strict=True)}
        for key in maps.keys() & arrays.keys():
            ours, kind = maps[key], "image" if key.startswith("image") else "feature"
            if ours.shape != arrays[key].shape:
                channels, step = 1 if ours.shape[1] == 3 else 3, (ours.shape[2] // 12) | 1  # the fixture's strides
                ours = ours[:, ::channels, ::step, ::step]
            yield Row(f"{network} {kind} {key}", error_of(ours, arrays[key]), IMAGE)


# Discriminator and alpha networks


def compare_discriminator(fixtures: Fixtures) -> Iterator[Row]:
    """Logits, block outputs and the minibatch statistic, which a wrong grouping changes where logits hide it."""
    expected = fixtures.arrays("rosinality/discriminator_256_m2")
    network = Discriminator(256)
    network.load_state_dict(fixtures.state("rosinality/discriminator_256_m2"))
    images = torch.from_numpy(fixtures.fill.images("discriminator", 8, 256))
    blocks: list[torch.Tensor] = []
    for layer in network.convs:
        layer.register_forward_hook(lambda _layer, _given, output: blocks.append(output))
    for name, part in (
        ("batch8", images),
        ("batch1", images[:1]),
        ("batch4_second", images[4:]),
        ("batch4", images[:4]),
    ):
        blocks.clear()
        yield Row(f"logits {name}", error_of(network(part), expected[f"logits_{name}"], relative=False), LOGITS)
        if f"minibatch_std_{name}" in expected:
            statistic = minibatch_stddev(blocks[-1])
            yield Row(f"minibatch statistic {name}", error_of(statistic, expected[f"minibatch_std_{name}"]), W)
    for k, block in enumerate(blocks):
        channels, size = (block.shape[1] // 16) | 1, (block.shape[2] // 8) | 1  # the fixture's odd strides
        part = block[:, ::channels]
        yield Row(f"feature {k}", error_of(part[:, :, ::size, ::size], expected[f"batch4/block_{k}"]), IMAGE)
        corner = part[:, :, -_CORNER:, -_CORNER:]
        yield Row(f"feature {k} corner", error_of(corner, expected[f"batch4/block_{k}_corner"]), IMAGE)


def our_alpha_key(key: str) -> str:
    """The name here of a tensor of either of the original's alpha networks."""
    layer, kind = key.rsplit(".", 1)
    if layer == "conv_n":
        return f"head.{kind}"
    if match := re.fullmatch(r"(\w+)\.(\d)", layer):
        return f"{_BG_EXTRACTOR[match[1]]}.{match[2]}.{kind}"
    if match := re.fullmatch(r"conv_next(\d?)", layer):
        return f"merges.{int(match[1] or 1) - 1}.{kind}"
    index = int(layer.removeprefix("conv")) - 1
    return f"{('first', 'second')[index % 2]}.{index // 2}.{kind}"


def build_alpha_network(fixtures: Fixtures, name: str) -> PaperNetwork:
    """The alpha network of ``alpha/{name}``, filled, for the generator of its size."""
    size = int(name.rsplit("_", 1)[1])
    with torch.device("meta"):
        generator = StyleGAN2({4 << k: min(32768 // (4 << k), 512) for k in range(size.bit_length() - 2)})
    network = PaperNetwork(generator.feature_specs, size)
    network.load_state_dict({our_alpha_key(key): value for key, value in fixtures.state(f"alpha/{name}").items()})
    return network


def compare_alpha(fixtures: Fixtures, name: str) -> Iterator[Row]:
    """Masks and logits of ``alpha/{name}``."""
    describe, expected = fixtures.describe(f"alpha/{name}"), fixtures.arrays(f"alpha/{name}")
    network = build_alpha_network(fixtures, name)
    noise = fixtures.fill.noise
    logits = network.logits([torch.from_numpy(noise(f["name"], f["shape"])) for f in describe["features"]])
    step, alpha = describe["output"]["stride"], logits.sigmoid()
    yield Row("logits", error_of(logits[:, :, ::step, ::step], expected["logit"]), IMAGE)
    yield Row("mask", error_of(alpha[:, :, ::step, ::step], expected["alpha"], relative=False), LOGITS)
    corners = {"alpha_corner": alpha[:, :, -_IMAGE_CORNER:, -_IMAGE_CORNER:]}
    corners["alpha_corner_top"] = alpha[:, :, :_IMAGE_CORNER, :_IMAGE_CORNER]
    for key, corner in corners.items():
        yield Row(f"mask {key}", error_of(corner, expected[key], relative=False), LOGITS)
    yield Row("mask statistics", error_of(statistics(alpha), expected["alpha_stats"], relative=False), LOGITS)


def compare_end_to_end(fixtures: Fixtures) -> Iterator[Row]:
    """Foreground, background, mask and composite of the whole pipeline at 256 pixels."""
    describe, expected = fixtures.describe("alpha/end_to_end_256"), fixtures.arrays("alpha/end_to_end_256")
    generator = build_generator(fixtures, "generator_256_m2")
    layered = LayeredGenerator(generator, build_alpha_network(fixtures, "bg_extractor_repro_256"))
    ws, behind = (generator.map(fixtures.latents(seed, 2), describe["truncation"]) for seed in (21, 22))
    foreground, background, alpha = layered(ws, behind)
    images = {"foreground": foreground, "background": background, "composite": composite(foreground, background, alpha)}
    step = describe["stride"]
    for name, image in images.items():
        yield Row(f"image {name}", error_of(image[:, :, ::step, ::step], expected[name]), IMAGE)
        yield Row(f"image {name} statistics", error_of(statistics(image), expected[f"{name}_stats"]), IMAGE)
    yield Row("mask", error_of(alpha[:, :, ::step, ::step], expected["alpha"], relative=False), LOGITS)
    hard = (alpha > 0.9).double().mean(dim=(1, 2, 3))
    yield Row("mask hard fraction", error_of(hard, expected["hard_mask_fraction"], relative=False), LOGITS)


ALPHAS = tuple(f"bg_extractor{kind}_{size}" for kind in ("_repro", "") for size in (256, 512, 1024))
COMPARISONS: dict[str, Callable[[Fixtures], Iterator[Row]]] = {
    **{name: partial(compare_generator, name=name) for name in GENERATORS},
    "latents_256_m2": compare_latents,
    **{name: partial(compare_nvidia, name=name) for name in NVIDIA_SEEDS},
    "discriminator_256_m2": compare_discriminator,
    **{name: partial(compare_alpha, name=name) for name in ALPHAS},
    "end_to_end_256": compare_end_to_end,
}
_KINDS = ("w", "image", "feature", "minibatch statistic", "logits", "mask")


def summary(rows: Iterable[Row]) -> dict[str, Row]:
    """The worst row of each kind of quantity, measured by its tolerance."""
    by_kind: dict[str, list[Row]] = {kind: [] for kind in _KINDS}
    for row in rows:
        by_kind[next(kind for kind in _KINDS if f" {kind} " in f" {row.quantity} ")].append(row)
    return {kind: max(found, key=lambda row: row.fraction) for kind, found in by_kind.items() if found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixtures", type=Path, help="folder with fill.py, rosinality/, nvlabs/ and alpha/")
    parser.add_argument("--only", nargs="+", choices=COMPARISONS, metavar="NAME", help="some of: %(choices)s")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    fixtures = Fixtures(arguments.fixtures)
    failed = 0
    print(f"{'fixture':<24} {'quantity':<20} {'largest error':>13}  {'allowed':>7}  where")
    for name in arguments.only or COMPARISONS:
        with torch.inference_mode():
            rows = list(COMPARISONS[name](fixtures))
        failed += sum(not row.passed for row in rows)
        for kind, row in summary(rows).items():
            print(f"{name:<24} {kind:<20} {row.error:13.2e}  {row.tolerance:7.0e}  {row.quantity}", flush=True)
    print(f"{failed} comparisons beyond their tolerance" if failed else "all within their tolerances")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
