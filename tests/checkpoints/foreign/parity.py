"""The numbers of the original implementations, and how far converted networks are from them."""

from __future__ import annotations

import json
import runpy

import numpy as np
import torch

RELATIVE = 1e-4
"""Tolerance, in parts of an array's largest value."""
LOGITS = 2e-5
"""Tolerance on logits of about 1."""
CLASSES = [0, 2, 1, 0, 0, 2, 1, 0]


class Fixture:
    """One network pickle: the filling rules, its description, the expected arrays."""

    def __init__(self, shared, name):
        folder = shared / "fixtures"
        self.rules = runpy.run_path(str(folder / "fill.py"))
        self.path = folder / "nvlabs" / f"{name}.pkl"
        self.images = "nvlabs/tf" if name.startswith("tf") else f"nvlabs/{name}"
        self.seed = ["ada_uncond", "ada_cond", "ada_fp16_clamp", "tf_stylegan2"].index(name) + 101
        self.describe = json.loads((folder / "nvlabs" / f"{name}.describe.json").read_text(encoding="utf-8"))
        with np.load(folder / "nvlabs" / f"{name}.expected.npz") as arrays:
            self.expected = {key: arrays[key] for key in arrays.files}

    def latents(self, generator):
        return torch.from_numpy(self.rules["latents"](self.seed, 4, generator.z_dim)[:2])


def relative(found, expected):
    """Largest difference in parts of the largest expected value."""
    assert found.shape == expected.shape
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def sliced(values):
    """What the fixtures keep of maps [N, C, H, H]: all of small ones, every few channels and pixels of others."""
    side = values.shape[-1]
    if side <= 8:
        return values
    step = (side // 12) | 1
    return values[:, :: 1 if values.shape[1] <= 3 else 3, ::step, ::step]


def labels(network, n):
    """One-hot labels of the fixtures, or None for a network without classes."""
    return torch.eye(network.c_dim)[CLASSES[:n]] if network.c_dim else None


def running_images(generator, ws):
    """The image after each block, [N, 3, R, R], by the module's name for it; computed the plain way."""
    images = {}

    def keep(name):
        return lambda _module, _inputs, output: images.update({name: output.detach().numpy()})

    hooks = [block.to_rgb.register_forward_hook(keep(f"{name}.img")) for name, block in generator.blocks.items()]
    generator.synthesize(ws.detach().clone().requires_grad_())
    for hook in hooks:
        hook.remove()
    return images


def generator_arrays(generator, z):
    """Everything that a fixture may hold of a generator, by its name there: in full, and sliced."""
    c = labels(generator, len(z))
    w = generator.map(z, labels=c)
    truncated = generator.map(z, 0.7, labels=c)
    cutoff = generator.map(z, 0.5, truncation_cutoff=4, labels=c)
    whole = generator.synthesize(w)
    arrays = {
        "w": w[:, 0],
        "w_psi0.7": truncated[:, 0],
        "ws_psi0.5_cutoff4": cutoff,
        "w_avg": generator.w_avg,
        "image_const": whole.image,
        "image_const_psi0.7": generator.synthesize(truncated).image,
        "image_none": generator.synthesize(w, noise="none").image,
        "image_const_psi0.5_cutoff4": generator.synthesize(cutoff).image,
        **{spec.name: value for spec, value in zip(generator.feature_specs, whole.features, strict=True)},
    }
    full = {name: value.detach().numpy() for name, value in arrays.items()} | running_images(generator, w)
    return full, {name: sliced(value) if value.ndim == 4 else value for name, value in full.items()}


def generator_errors(fixture, generator, part="G_ema"):
    """Relative error of every array that the fixture has of one of its generators."""
    full, slices = generator_arrays(generator, fixture.latents(generator))
    expected = {key.removeprefix(f"{part}/"): v for key, v in fixture.expected.items() if key.startswith(f"{part}/")}
    assert expected.keys() <= full.keys()
    return {
        name: relative(full[name] if full[name].shape == value.shape else slices[name], value)
        for name, value in expected.items()
    }


def logit_errors(fixture, discriminator, name="D/logits_batch{}", batches=(1, 4, 8)):
    """Largest absolute difference of the logits of each batch."""
    images = torch.from_numpy(fixture.rules["images"](fixture.images, 8, discriminator.resolution))
    errors = {}
    for n in batches:
        with torch.no_grad():
            found = discriminator(images[:n], labels(discriminator, n)).numpy()
        errors[n] = float(np.abs(found - fixture.expected[name.format(n)]).max())
    return errors
