"""``labels4free demo``: fetch a generator, train an alpha network on it, sample it, write a report."""

from __future__ import annotations

import json
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from tyro.conf import arg

from labels4free.cli.progress import progress_bar
from labels4free.cli.sample import sample_with_bar
from labels4free.errors import ConfigError, RunError
from labels4free.files import write_atomically, write_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from labels4free.generators.base import Generator


T = TypeVar("T")

SAMPLES = 16
SAMPLE_SIZE = 512  # pixels; a demo's data set is to be looked at
_STATE = "demo.json"


def run(
    *,
    out: Annotated[Path, arg(metavar="DIR")] = Path("labels4free-demo"),
    minutes: float = 9.0,
    generator: Annotated[str, arg(metavar="NAME")] = "mobilestylegan-ffhq-1024",
    seed: int = 0,
) -> None:
    """Fetch a generator, train an alpha network on it without labels, sample it, and write a page about it.

    The same command continues where an interrupted one stopped.

    Args:
        out: Folder to write to; open report.html in it afterwards.
        minutes: How long all but the download should take, roughly. More minutes give better masks.
        generator: A generator of the model zoo, or a file.
        seed: Seed of the training and of the samples.
    """
    if not minutes > 0:
        raise ConfigError(f"minutes must be above 0, got {minutes}.")
    state = _State(out, {"generator": generator, "minutes": minutes, "seed": seed})
    try:
        _run_steps(state, out, minutes, generator, seed)
    except KeyboardInterrupt:
        words = ["labels4free", "demo", "--out", str(out), "--minutes", f"{minutes:g}", "--generator", generator]
        again = shlex.join([*words, "--seed", str(seed)])
        print(f"Stopped. Nothing is lost, this goes on from here:\n  {again}", file=sys.stderr)
        raise


class _State:
    """What the demo remembers in its folder between two calls: its settings, what it measured, seconds by step."""

    def __init__(self, out: Path, settings: Mapping[str, Any]) -> None:
        self.path = out / _STATE
        self.wanted = dict(settings)
        self.values: dict[str, Any] = {"settings": self.wanted, "seconds": {}, "done": []}
        if self.path.exists():
            self._go_on()
        elif out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"{out} is not an empty folder and holds no earlier demo: choose another one with --out.")
        self.save()

    def _go_on(self) -> None:
        try:
            earlier = json.loads(self.path.read_text(encoding="utf-8"))
            settings = earlier["settings"]
            self.values = {**earlier, "seconds": dict(earlier["seconds"]), "done": list(earlier["done"])}
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{self.path} is damaged ({error!r}): choose another folder with --out.") from error
        for name, value in self.wanted.items():
            if settings.get(name) != value:
                raise RunError(
                    f"{self.path.parent} holds a demo with {name} {settings.get(name)}, asked for was {value}: "
                    f"repeat its settings to go on with it, or choose another folder with --out."
                )

    def save(self) -> None:
        """Write the state to the demo's folder.

        Raises:
            RunError: If it cannot be written.
        """
        try:
            write_atomically(self.path, (json.dumps(self.values, indent=1) + "\n").encode())
        except OSError as error:
            raise RunError(write_failure(self.path, error)) from error

    def timed(self, step: str, do: Callable[[], T]) -> T:
        """Do a step. Its duration counts until it is done for the first time, over all calls that worked on it."""
        start = time.monotonic()
        try:
            result = do()
        finally:
            if step not in self.values["done"]:
                self.values["seconds"][step] = self.values["seconds"].get(step, 0.0) + time.monotonic() - start
                self.save()
        if step not in self.values["done"]:
            self.values["done"].append(step)
            self.save()
        return result


def _run_steps(state: _State, out: Path, minutes: float, generator: str, seed: int) -> None:
    from labels4free.pages.demo import DemoResult, demo_report, duration
    from labels4free.pages.html import write_report
    from labels4free.sampling.config import SampleConfig
    from labels4free.sampling.filters import NO_FILTERS

    run_folder, samples = out / "run", out / "samples"
    print(f"[1/4] Fetching the generator {generator}", flush=True)
    loaded = state.timed("fetch", lambda: _fetch(generator))
    print(f"[2/4] Training an alpha network on it: no labels, no images (about {minutes:g} minutes in all)", flush=True)
    state.timed("train", lambda: _train(loaded, generator, run_folder, minutes, seed))
    print(f"[3/4] Sampling {SAMPLES} images with their masks", flush=True)
    # All that there is to look at, good or bad.
    everything = ("image", "alpha", "mask", "composite", "background")
    size = min(SAMPLE_SIZE, loaded.resolution)
    config = SampleConfig(seed=seed, size=size, parts=everything, filters=NO_FILTERS)
    from labels4free.checkpoints.loading import load_layered

    layered, _ = load_layered(str(run_folder), generator, "cpu")
    alpha_name = str(run_folder.resolve())
    state.timed("sample", lambda: sample_with_bar(layered, samples, SAMPLES, config, generator, alpha_name=alpha_name))
    print("[4/4] Writing the report", flush=True)
    seconds = state.values["seconds"]
    result = DemoResult(run_folder, samples, generator, seconds)
    page = write_report(out / "report.html", demo_report(result))
    parts = ", ".join(f"{step} {duration(took)}" for step, took in seconds.items())
    print(f"Done in {duration(sum(seconds.values()))} ({parts}).\nOpen {page} in a browser.")


def _fetch(name: str) -> Generator:
    """Load the generator, fetched first if it is a zoo name that is not in the cache yet."""
    from rich.console import Console

    from labels4free.checkpoints.loading import load_generator
    from labels4free.checkpoints.model_zoo import MODELS, fetch

    if name in MODELS:
        with Console(stderr=True).status("Looking into the cache") as status:
            fetch(name, progress=status.update)
    return load_generator(name)


def _train(generator: Generator, name: str, run: Path, minutes: float, seed: int) -> None:
    """Train, or go on with training."""
    from labels4free.training.alpha.config import config_for_minutes
    from labels4free.training.alpha.run import train_alpha_network
    from labels4free.training_loop.contracts import ALPHA

    if (run / ALPHA.file).exists():
        return
    resume, config = (run / "config.json").exists(), None
    if not resume:
        seconds = _seconds_per_image(generator)
        training_minutes = max(0.1 * minutes, minutes - SAMPLES * (2 * seconds + 0.5) / 60)
        config = config_for_minutes(training_minutes, seconds, seed=seed)
    with progress_bar("Training", before="Rendering") as progress:
        result = train_alpha_network(generator, run, config, resume=resume, generator_name=name, progress=progress)
    if result.interrupted:
        raise KeyboardInterrupt


def _seconds_per_image(generator: Generator) -> float:
    """Measure a rendering: the median of three, after one that warms up."""
    import torch

    from labels4free.generators.base import sample_z

    took = []
    with torch.inference_mode():
        ws = generator.map(sample_z(generator.z_dim, 0, 0).to(generator.w_avg.device).unsqueeze(0))
        for _ in range(4):
            start = time.monotonic()
            generator.synthesize(ws)
            took.append(time.monotonic() - start)
    return statistics.median(took[1:])
