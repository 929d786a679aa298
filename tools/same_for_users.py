"""Whether two checkouts do the same for a user: the same commands in both, and every file that they leave compared.

    python tools/same_for_users.py OLD_TREE NEW_TREE --photos PORTRAITS --checkpoints FIXTURES

Only the command line is used, with this interpreter, one thread and each tree's ``src``: checkpoints converted; three
trainings (alpha network, published recipe, segmenter) that Ctrl-C interrupts and that go on; 8 pairs in every format;
6 photos segmented; masks evaluated. The trees work one after the other in a folder of the same path, so that the paths
in their files are the same. It takes two to three minutes a tree.

Files are equal, byte for byte; or "renamed": equal once the old words in them are replaced by the new ones of
``same_for_users.toml``, which also says what flags and settings are called in a tree. Versions and seconds do not
count. The exit code is 1 if anything is different.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from PIL import Image, ImageDraw

TABLE = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
COMMANDS = TABLE["commands"]
LEFT_OUT, VARYING = set(TABLE["varying"]["keys"]), re.compile("|".join(TABLE["varying"]["text"]))
CHECKSUM = re.compile("[0-9a-f]{64}")
PHOTOS, INTERRUPTED_AT, SHOWN = 6, 5, 5


class Tree:
    """A checkout, and the words that its command line speaks.

    Attributes:
        path: The checkout.
        here: The folder that its commands run in.
        inputs: The folder of what both trees are given.
        new: Whether it speaks the new words.
    """

    def __init__(self, path: Path, here: Path, inputs: Path) -> None:
        self.path, self.here, self.inputs = path.resolve(), here, inputs
        self.pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        self.environment = os.environ | {"PYTHONPATH": str(self.path / "src"), "OMP_NUM_THREADS": "1"}
        self.new = False
        here.mkdir()
        sections = tomllib.loads(self._preset("auto")).items()
        names = {f"{section}.{name}" for section, part in sections if isinstance(part, dict) for name in part}
        self.new = not names.isdisjoint(TABLE["settings"].values())

    def work(self, checkpoints: list[Path]) -> None:
        """Run all the commands; each step leaves a folder of its name."""
        for file in (self.inputs / "generator.pt", *checkpoints):
            self.run("convert", f"convert {file} convert/{file.parent.name}_{file.stem}.safetensors")
        self.train("train")
        (self.here / "preset.toml").write_text(self._preset("horse-own"), encoding="utf-8")
        self.train("published")
        for kind, more in TABLE["formats"].items():
            self.run("sample", f"{COMMANDS['sample']} --out sample/{kind} --format {kind} {more}")
        self.train("distill")
        for step in ("segment", "evaluate", "evaluate_model"):
            self.run(step, COMMANDS[step])

    def run(self, step: str, line: str) -> None:
        """Run a command; what it prints, and the sentence that it fails with, go to a file of the step."""
        process = self._start(line)
        said, complaint = process.communicate()
        if process.returncode:
            said += f"exit code {process.returncode}: {complaint.strip().splitlines()[-1]}\n"
        (self.here / step).mkdir(exist_ok=True)
        with (self.here / step / "said.txt").open("a", encoding="utf-8") as file:
            file.write(said)

    def train(self, step: str) -> None:
        """Start a training, send it Ctrl-C after some steps, and have it go on to its end."""
        process, log = self._start(COMMANDS[step]), self.here / step / "run" / "log.jsonl"
        while process.poll() is None and (not log.exists() or log.read_bytes().count(b"\n") < INTERRUPTED_AT):
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        said = process.communicate()
        if process.returncode != 128 + signal.SIGINT:
            raise SystemExit(f"same_for_users: {self.path}: the step {step!r} was not interrupted: {''.join(said)}")
        self.run(step, f"{COMMANDS[step]} --resume")

    def _preset(self, name: str) -> str:
        """A preset's settings as a file, in the tree's words."""
        settings, complaint = (process := self._start(f"presets {name}")).communicate()
        if process.returncode:
            raise SystemExit(f"same_for_users: {self.path} is no checkout that runs: {complaint}")
        return settings

    def _start(self, line: str) -> subprocess.Popen[str]:
        words = line.replace("INPUTS", str(self.inputs)).split()
        if self.new:
            settings = [TABLE["flags"].get(word, word).partition("=") for word in words]
            words = [TABLE["settings"].get(name, name) + sign + value for name, sign, value in settings]
        words = [sys.executable, "-B", "-m", "labels4free", *words]
        return subprocess.Popen(words, cwd=self.here, env=self.environment, **self.pipes)


class Comparison:
    """Tells what of an old tree is something else in a new one.

    Args:
        renamed: Whether the new tree speaks other words than the old one. If so, checksums do not count where they
            stand in a list, beside a file's name or size: all files are compared themselves.
    """

    def __init__(self, *, renamed: bool) -> None:
        self.table: dict[str, dict[str, str]] = TABLE if renamed else {name: {} for name in TABLE}
        words = [self.table[name].items() for name in ("keys", "flags", "settings", "text")]
        self.words = {old: new for several in words for old, new in several}
        longest_first = map(re.escape, sorted(self.words, key=len, reverse=True))
        self.pattern = re.compile(rf"(?<![\w-])({'|'.join(longest_first) or '(?!)'})(?![\w-])")

    def print_row(self, step: str, old: dict[str, bytes], new: dict[str, bytes]) -> bool:
        """Print a step's row of the table and what is different in its files; returns whether nothing is."""
        for pattern, path in self.table["files"].items():
            old = {re.sub(pattern, path, name): data for name, data in old.items()}
        equal = [name for name in old if name in new and old[name] == new[name]]
        wrong = {name: f"only in the {'old' if name in old else 'new'} tree" for name in old.keys() ^ new.keys()}
        for name in sorted((old.keys() & new.keys()).difference(equal)):
            if (said := self._difference(parsed(name, old[name]), parsed(name, new[name]))) is not None:
                wrong[name] = said
        print(f"{step:15}{(count := len(old | new)):7}{len(equal):7}{count - len(equal) - len(wrong):9}{len(wrong):11}")
        for name, said in sorted(wrong.items())[:SHOWN]:
            print(f"    {name}: {said}")
        return not wrong

    def _difference(self, old: Any, new: Any, where: str = "") -> str | None:
        """Say where two values begin to differ; None where nothing does but words."""
        if isinstance(old, str) and isinstance(new, str):
            old = VARYING.sub("", self.pattern.sub(lambda word: self.words[word[0]], old))
            new = VARYING.sub("", new)
            at = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
            old, new = (old, new) if old == new else (text[max(0, at - 20) :] for text in (old, new))
        if isinstance(old, list) and isinstance(new, list):
            if self.words and any(CHECKSUM.fullmatch(str(item)) for item in old):
                old, new = ([x for x in y if isinstance(x, str) and not CHECKSUM.fullmatch(x)] for y in (old, new))
            old, new = dict(enumerate(old)), dict(enumerate(new))
        if isinstance(old, dict) and isinstance(new, dict):
            old = {name if name in new else self.table["keys"].get(name, name): old[name] for name in old}
            if old.keys() != new.keys():
                alone = sorted(map(str, old.keys() ^ new.keys()))
                return f"{where or '/'} has only in one tree {', '.join(alone)[:80]}"
            parts = (self._difference(old[name], new[name], f"{where}/{name}") for name in old if name not in LEFT_OUT)
            return next((said for said in parts if said is not None), None)
        if isinstance(old, np.ndarray) and old.shape == np.shape(new):
            count, largest = np.sum(old != new), np.abs(old - new).max(initial=0)
            said = f"{count} of the {old.size} values in {where or 'it'} differ, by up to {largest:g}"
            return said if count or not where else None  # a picture may be the same in other bytes
        return None if type(old) is type(new) and old == new else f"{where or '/'} was {old!r:.70}, is {new!r:.70}"


def parsed(name: str, data: bytes) -> Any:
    """A file as values that can be compared one by one."""
    if name.endswith((".json", ".jsonl")):
        return [json.loads(line) for line in (data.splitlines() if name.endswith("l") else [data])]
    if name.endswith(".safetensors"):
        length = 8 + int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8:length]).pop("__metadata__", {})
        tensors = {tensor: value.numpy() for tensor, value in safetensors.torch.load(data).items()}
        return {"metadata": {key: json.loads(value) for key, value in metadata.items()}, **tensors}
    if name.endswith(".pt"):
        return leaves(torch.load(io.BytesIO(data), weights_only=True))
    if name.endswith((".png", ".jpg", ".webp")):
        return np.asarray(Image.open(io.BytesIO(data)), np.int32)
    if name.endswith(".tar"):
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            members = {member.name: tar.extractfile(member) for member in tar}
            return {inner: parsed(inner, file.read()) for inner, file in members.items() if file}
    return data.decode(errors="backslashreplace").splitlines()


def leaves(value: Any) -> list[str]:
    """The tensors of a nested state, bit for bit, in an order that names do not decide."""
    if isinstance(value, torch.Tensor):
        return [f"{value.dtype} {list(value.shape)} {value.numpy().tobytes().hex()}"]
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return sorted(leaf for part in parts for leaf in leaves(part))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_inputs(folder: Path, photos: Path | None) -> None:
    """Write a generator as rosinality's code would, and photos with masks: the first ones of a folder, or drawn."""
    folder.mkdir(parents=True)
    torch.save(tiny_generator(), folder / "generator.pt")
    for part in ("images", "gt"):
        (folder / part).mkdir()
        for path in sorted((photos / part).iterdir())[:PHOTOS] if photos else ():
            shutil.copy(path, folder / part)
    for index in range(0 if photos else PHOTOS):
        image, mask = Image.linear_gradient("L").convert("RGB"), Image.new("L", (256, 256))
        for box in ((50 + 9 * index, 40, 140 + 9 * index, 150), (9 * index, 140, 190 + 9 * index, 400)):
            ImageDraw.Draw(image).ellipse(box, fill=(225, 180 - 9 * index, 150))
            ImageDraw.Draw(mask).ellipse(box, fill=255)
        image.save(folder / "images" / f"{index}.png")
        mask.save(folder / "gt" / f"{index}.png")


def tiny_generator() -> dict[str, Any]:
    """A StyleGAN2 of 64 pixels with random weights, in the layout of rosinality/stylegan2-pytorch."""
    torch.manual_seed(0)
    normal, fir = torch.randn, torch.tensor([1.0, 3.0, 3.0, 1.0])
    state = {f"style.{number}.weight": 100 * normal(8, 8) for number in (1, 2)}
    state |= {f"style.{number}.bias": torch.zeros(8) for number in (1, 2)} | {"input.input": normal(1, 12, 4, 4)}
    layers = [("conv1", 12, 12), ("to_rgb1", 12, 3)]
    for level, (inner, outer) in enumerate(pairwise((12, 12, 12, 8, 6))):
        layers += [(f"convs.{2 * level}", inner, outer), (f"convs.{2 * level + 1}", outer, outer)]
        layers += [(f"to_rgbs.{level}", outer, 3)]
        filters = (f"convs.{2 * level}.conv.blur.kernel", f"to_rgbs.{level}.upsample.kernel")
        state |= dict.fromkeys(filters, torch.outer(fir, fir) / 16)
    for name, inner, outer in layers:
        side, scale = (1, 0.1) if outer == 3 else (3, 1.0)
        state[f"{name}.conv.weight"] = scale * normal(1, outer, inner, side, side)
        state[f"{name}.conv.modulation.weight"] = 0.4 * normal(inner, 8)
        state[f"{name}.conv.modulation.bias"] = torch.ones(inner)
        own = {"bias": normal(1, 3, 1, 1)} if side == 1 else {"activate.bias": normal(outer), "noise.weight": normal(1)}
        state |= {f"{name}.{part}": 0.1 * value for part, value in own.items()}
    state |= {f"noises.noise_{number}": normal(1, 1, *(2 ** ((number + 5) // 2),) * 2) for number in range(9)}
    return {"g_ema": state, "latent_avg": torch.zeros(8)}


def main() -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD_TREE", help="a checkout")
    parser.add_argument("new", type=Path, metavar="NEW_TREE", help="another one")
    parser.add_argument("--work", type=Path, help="new folder to work in; by default a temporary one")
    parser.add_argument("--photos", type=Path, help="folder with images/ and gt/; by default photos are drawn")
    parser.add_argument("--checkpoints", type=Path, help="folder with .pt and .pkl files, to be converted as well")
    arguments = parser.parse_args()
    files = sorted(arguments.checkpoints.resolve().rglob("*.p[tk]*")) if arguments.checkpoints else []
    work = (arguments.work or Path(tempfile.mkdtemp())).resolve()
    write_inputs(work / "inputs", arguments.photos)
    trees = {}
    for name in ("old", "new"):
        start = time.monotonic()
        trees[name] = Tree(getattr(arguments, name), work / "here", work / "inputs")
        trees[name].work(files)
        (work / "here").rename(work / name)
        print(f"{name} tree: {time.monotonic() - start:.0f} s, {work / name}", flush=True)
    how = Comparison(renamed=trees["new"].new and not trees["old"].new)
    print(f"{'step':15}{'files':>7}{'equal':>7}{'renamed':>9}{'different':>11}")
    steps = sorted(path.name for path in (work / "old").iterdir() if path.is_dir())
    same = [how.print_row(step, *(contents(work / name / step) for name in trees)) for step in steps]
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main())
