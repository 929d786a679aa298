"""Claim: a step of our training of generators is that of rosinality/stylegan2-pytorch, to 1e-4.

    python benchmarks/generator_step_parity.py REFERENCE --write tests/fixtures/generator_step.npz

REFERENCE is a checkout of that repository. Its own networks and losses (``model.py``, ``train.py``), tiny and on the
CPU, do one iteration: discriminator, R1, generator, path lengths, a step of Adam each. What they begin with and all
that they come to is written as numbers; ``tests/training/generator/test_parity.py`` compares ours with them, and needs
no reference. Latents, noise and images are drawn from seeds, by :func:`draws`, and are not in the file.

The widths in ``model.py`` are fixed; they are replaced as it is read. So are its compiled operations, which have plain
PyTorch beside them for CPUs.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

SIDE, STYLES, LAYERS, BATCH = 32, 16, 2, 8
WIDTHS = {4: 8, 8: 8, 16: 6, 32: 6}
CROSSOVER = {"discriminator": 3, "generator": 5, "paths": 2}
RATE, GAMMA, PATH_WEIGHT, R1_EVERY, PATHS_EVERY = 0.002, 10.0, 2.0, 16, 4
FIRST_MEAN = 0.3  # mean path length before the step


def draws(purpose: str) -> dict[str, Any]:
    """What one of the three forward passes begins with: two batches of z, noise a layer, and a direction or images.

    In float64, as the reference computes here, so that what differs is the method and not the rounding.
    """
    rng = torch.Generator().manual_seed(list(CROSSOVER).index(purpose))
    count = BATCH // 2 if purpose == "paths" else BATCH
    sizes = [4, *(size for size in WIDTHS if size > 4 for _ in range(2))]
    z = [torch.randn(count, STYLES, generator=rng).double() for _ in range(2)]
    noise = [torch.randn(count, 1, size, size, generator=rng).double() for size in sizes]
    image = torch.randn(count, 3, SIDE, SIDE, generator=rng).double()
    return {"z": z, "noise": noise, "image": image, "crossover": CROSSOVER[purpose]}


def load_reference(folder: Path, widths: Mapping[int, int]) -> tuple[ModuleType, ModuleType]:
    """Its ``model.py``, of our widths, and its ``train.py``, without what they need for GPUs and files."""
    torch.utils.cpp_extension = ModuleType("cpp_extension")
    torch.utils.cpp_extension.load = lambda *_, **__: None
    stubs = {
        "torch.utils.cpp_extension": torch.utils.cpp_extension,
        "dataset": _with(ModuleType("dataset"), "MultiResolutionDataset"),
        "non_leaking": _with(ModuleType("non_leaking"), "augment", "AdaptiveAugment"),
        "torchvision": _with(ModuleType("torchvision"), "transforms", "utils"),
    }
    sys.modules.update(stubs)
    sys.path.insert(0, str(folder))
    source = (folder / "model.py").read_text(encoding="utf-8")
    narrow, count = re.subn(r"channels = \{.*?\}", f"channels = {dict(widths)}", source, flags=re.DOTALL)
    if count != 2:
        raise SystemExit(f"{folder}/model.py has {count} tables of widths, expected 2.")
    model = ModuleType("model")
    exec(compile(narrow, str(folder / "model.py"), "exec"), model.__dict__)  # noqa: S102
    import train

    return model, train


def _with(module: ModuleType, *names: str) -> ModuleType:
    for name in names:
        setattr(module, name, None)
    return module


class Reference:
    """Its networks with weights of a seed, its optimisers, and everything that an iteration of it comes to."""

    def __init__(self, model: ModuleType, train: ModuleType) -> None:
        torch.manual_seed(0)
        self.train = train
        self.generator, self.discriminator = model.Generator(SIDE, STYLES, LAYERS), model.Discriminator(SIDE)
        with torch.no_grad():  # what is 0 at first would hide mistakes
            for network in (self.generator, self.discriminator):
                for name, value in network.named_parameters():
                    if name.endswith(("bias", "noise.weight")):
                        value += 0.2 * torch.randn_like(value)
        self.numbers: dict[str, torch.Tensor] = {}
        self.generator.double(), self.discriminator.double()
        self._keep("before", self.generator.state_dict(), self.discriminator.state_dict())
        ratios = (PATHS_EVERY / (PATHS_EVERY + 1), R1_EVERY / (R1_EVERY + 1))
        self.of_generator, self.of_discriminator = (
            torch.optim.Adam(network.parameters(), RATE * ratio, (0.0**ratio, 0.99**ratio))
            for network, ratio in zip((self.generator, self.discriminator), ratios, strict=True)
        )

    def iterate(self) -> dict[str, torch.Tensor]:
        train, reals = self.train, draws("discriminator")["image"]
        fakes, _ = self._render("discriminator")
        loss = train.d_logistic_loss(self.discriminator(reals), self.discriminator(fakes.detach()))
        self._move("discriminator", self.discriminator, self.of_discriminator, loss, loss)
        reals.requires_grad_()
        logits = self.discriminator(reals)
        penalty = train.d_r1_loss(logits, reals)
        weighted = GAMMA / 2 * R1_EVERY * penalty + 0 * logits.sum()
        self._move("r1", self.discriminator, self.of_discriminator, weighted, penalty)
        loss = train.g_nonsaturating_loss(self.discriminator(self._render("generator")[0]))
        self._move("generator", self.generator, self.of_generator, loss, loss)
        self._path_lengths()
        self._keep("after", self.generator.state_dict(), self.discriminator.state_dict())
        return self.numbers

    def _path_lengths(self) -> None:
        image, styles = self._render("paths")
        drawn = torch.randn_like
        torch.randn_like = lambda _image: draws("paths")["image"]
        try:
            penalty, mean, lengths = self.train.g_path_regularize(image, styles, FIRST_MEAN)
        finally:
            torch.randn_like = drawn
        weighted = PATH_WEIGHT * PATHS_EVERY * penalty + 0 * image.sum()
        self.numbers |= {"lengths": lengths.detach(), "mean_path_length": mean}
        self._move("paths", self.generator, self.of_generator, weighted, penalty)

    def _render(self, purpose: str) -> tuple[torch.Tensor, torch.Tensor]:
        given = draws(purpose)
        return self.generator(given["z"], noise=given["noise"], inject_index=given["crossover"], return_latents=True)

    def _move(
        self, name: str, network: torch.nn.Module, adam: torch.optim.Adam, weighted: torch.Tensor, value: torch.Tensor
    ) -> None:
        network.zero_grad()
        weighted.backward()
        adam.step()
        self.numbers[f"loss/{name}"] = value.detach()
        gradients = {key: parameter.grad.clone() for key, parameter in network.named_parameters()}
        self.numbers |= {f"gradient/{name}/{key}": value for key, value in gradients.items()}

    def _keep(self, when: str, generator: dict[str, Any], discriminator: dict[str, Any]) -> None:
        for network, state in (("g", generator), ("d", discriminator)):
            named = {f"{when}/{network}/{key}": value.clone() for key, value in state.items()}
            self.numbers |= {k: v for k, v in named.items() if when == "before" or "noises." not in k}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reference", type=Path, help="a checkout of rosinality/stylegan2-pytorch")
    parser.add_argument("--write", type=Path, required=True, help="the .npz file to write")
    arguments = parser.parse_args()
    numbers = Reference(*load_reference(arguments.reference, WIDTHS)).iterate()
    np.savez_compressed(arguments.write, **{key: value.detach().float().numpy() for key, value in numbers.items()})
    losses = ", ".join(f"{key[5:]} {float(value):.6f}" for key, value in numbers.items() if key.startswith("loss/"))
    print(f"{arguments.write}: {len(numbers)} arrays, {arguments.write.stat().st_size // 1024} KiB; {losses}")


if __name__ == "__main__":
    main()
