"""The card of a data set: what it is, where it comes from, how to read it, and what it is not. From its manifest alone.

Folders of the machine that made it are left out, since cards are published; so are times, so that the same data set has
the same card.
"""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labels4free.checkpoints.model_zoo import MODELS
from labels4free.data.names import PARTS
from labels4free.data.pairs.files import LATENTS, suffix_of
from labels4free.sampling.config import PAPER, SampleConfig
from labels4free.settings_fields import as_json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from labels4free.data.pairs.record import PairLayout

DATA_SET = "DATASET"
"""What stands for the data set's folder in the card's commands and programs."""

_MEANINGS = {
    "image": "the generated image, RGB",
    "alpha": "soft mask, {bits} bits: 0 is background, {top} is object",
    "mask": "hard mask, 0 or 255: 255 where alpha exceeds {threshold:g}",
    "composite": "the object over {behind}",
    "background": "what the composite has behind the object",
    "cutout": "RGBA: the image with alpha as its opacity, not premultiplied",
    "latents": "float32 arrays: `ws` of the image; `background_ws` of a generated background",
}

_OTHERWISE = (  # settings that are not flags of the same name
    "min_truncation_psi",
    "max_truncation_psi",
    "parts",
    "uncertainty",
    "filters",
    "background",
    "batch_size",
)

_LIMITS = """\
- The images are generated: they show what the generator learned to draw, with its faults and its one-sidedness. Who or
  what they show need not exist; faces may resemble people of the generator's training data.
- The masks are a network's, trained without labels. There is no true mask to compare with; the numbers above tell
  whether masks are sane, not how good they are. Where it matters, have a sample of them checked by people.
- What counts as the object is what the generator draws before a background. Held things, hats, stands and shadows may
  lie on either side.
- The filters and the uncertainty find masks that are odd or unsteady. A mask that is steadily wrong passes."""


def data_card(manifest: Mapping[str, Any]) -> str:
    """Write the card, Markdown.

    Args:
        manifest: That of a finished data set, see :mod:`labels4free.data.pairs.manifest`; holds its ``summary`` and
            ``shards``.
    """
    manifest = without_folders(manifest)
    config = SampleConfig.from_json(manifest["settings"])
    layout, summary = config.layout(manifest["settings"]["size"]), manifest["summary"]
    sections = [
        ("What a pair holds", _parts(config)),
        ("Where it comes from", _origin(manifest)),
        ("Numbers", _numbers(manifest)),
        ("How to read it", reading(config.format, layout, manifest["shard_count"])),
        ("How to make it again", _again(manifest)),
        ("What it is not", _LIMITS),
        ("Settings", _block("json", json.dumps(manifest["settings"], indent=1))),
    ]
    lead = (
        f"{_count(summary['kept'], 'pair')} of a generated image and the mask of its foreground, {layout.size} x "
        f"{layout.size} pixels, made by labels4free. No label was used and no person drew or checked a mask."
    )
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections)
    return f"# Images with masks: {_text(config.category)}\n\n{lead}\n\n{body}\n"


def reading(name: str, layout: PairLayout, shards: int) -> str:
    """How to read a data set of a format: by the programs that the format is for, and by ours. Markdown.

    Args:
        name: Of the format.
        layout: How the pairs are written.
        shards: How many shards there are.
    """
    return "\n\n".join(_block("python", program) for program in reading_programs(name, layout, shards))


def reading_programs(name: str, layout: PairLayout, shards: int) -> list[str]:
    """The programs of :func:`reading`, Python; :data:`DATA_SET` stands for the folder."""
    ours = "\n".join(
        [
            "from labels4free.data.pairs.formats import open_pairs\n",
            f'for pair in open_pairs("{DATA_SET}"):  # any format; open_pairs("{DATA_SET}")[0] is the first pair',
            *(
                f"    {part} = " + ("pair.latents" if part == LATENTS else f'pair.pictures["{part}"]')
                for part in layout.parts
            ),
            "    foreground_ratio = pair.record.foreground_ratio",
        ]
    )
    theirs: Mapping[str, Callable[[PairLayout, Sequence[str], int], str]] = {
        "folder": _read_folder,
        "webdataset": _read_webdataset,
        "coco": _read_coco,
        "huggingface": _read_huggingface,
    }
    pictures = [part for part in layout.parts if part != LATENTS]
    return [*([theirs[name](layout, pictures, shards)] if name in theirs else []), ours]


def _read_folder(layout: PairLayout, pictures: Sequence[str], _: int) -> str:
    lines = [f'    {p} = Image.open(f"{DATA_SET}/{PARTS[p]}/{{name}}{suffix_of(p, layout)}")' for p in pictures]
    return "\n".join(
        [
            "import json\n\nfrom PIL import Image\n",
            f'for line in open("{DATA_SET}/records.jsonl"):',
            "    record = json.loads(line)",
            "    name = f\"{record['index']:05d}\"",
            *lines,
        ]
    )


def _read_webdataset(layout: PairLayout, pictures: Sequence[str], shards: int) -> str:
    names = ", ".join(f'"{part}{suffix_of(part, layout)}"' for part in pictures)
    endings = " ".join(sorted({suffix_of(part, layout).removeprefix(".") for part in pictures}))
    url = f"{DATA_SET}/shard-{{000000..{shards - 1:06d}}}.tar"
    return (
        "import io\n\nimport webdataset\nfrom PIL import Image\n\n"
        '# Its own decode("pil") turns masks and alphas into RGB.\n'
        f'decode = webdataset.handle_extension("{endings}", lambda data: Image.open(io.BytesIO(data)))\n'
        f'pairs = webdataset.WebDataset("{url}", shardshuffle=False).decode(decode)\n'
        f'for {", ".join([*pictures, "record"])} in pairs.to_tuple({names}, "json"):\n'
        '    foreground_ratio = record["foreground_ratio"]'
    )


def _read_coco(_: PairLayout, __: Sequence[str], ___: int) -> str:
    return (
        "from PIL import Image\nfrom pycocotools.coco import COCO\n\n"
        f'coco = COCO("{DATA_SET}/instances.json")\n'
        "for entry in coco.loadImgs(coco.getImgIds()):\n"
        f'    image = Image.open("{DATA_SET}/{PARTS["image"]}/" + entry["file_name"])\n'
        '    annotations = coco.loadAnns(coco.getAnnIds(imgIds=[entry["id"]]))\n'
        "    mask = coco.annToMask(annotations[0]) if annotations else None  # [H, W], 0 or 1; None is an empty mask"
    )


def _read_huggingface(_: PairLayout, pictures: Sequence[str], __: int) -> str:
    lines = [f'    {part} = row["{part}"]' for part in pictures]
    return "\n".join(
        [
            "from datasets import load_dataset\n",
            f'for row in load_dataset("imagefolder", data_dir="{DATA_SET}", split="train"):',
            *lines,
            '    foreground_ratio = row["foreground_ratio"]',
        ]
    )


def _parts(config: SampleConfig) -> str:
    values = {
        "bits": config.alpha_bits,
        "top": 2**config.alpha_bits - 1,
        "threshold": config.threshold,
        "behind": {"generated": "another latent's background"}.get(config.backgrounds, _code(config.backgrounds)),
    }
    rows = [[f"`{part}`", _MEANINGS[part].format(**values)] for part in config.parts]
    more = "" if config.image_format == "png" else f" Colour pictures are {config.image_format.upper()} files."
    more += f" Alpha was refined at the border ({config.refine})." if config.refine else ""
    return _table(["part", "what it is"], rows) + (
        f"\n\nFormat: `{config.format}`.{more} Of each pair its measurements are kept as well: foreground ratio "
        "(fraction of the picture that is foreground), components, sharpness, the latent's truncation, and uncertainty "
        "where it was measured. `manifest.json` has all settings, `shards/` every file's checksum."
    )


def _origin(manifest: Mapping[str, Any]) -> str:
    generator, alpha, versions = manifest["generator"], manifest["alpha_network"], manifest["versions"]
    zoo = MODELS.get(generator["name"])
    licence = f"{zoo.licence} ({zoo.credit}, {zoo.reference})" if zoo else "unknown to labels4free"
    rows = [
        ["generator", _code(generator["name"] or "not named")],
        ["family, resolution", f"{_text(generator['family'])}, {generator['resolution']} x {generator['resolution']}"],
        ["hash of its weights", _code(generator["state_hash"])],
        ["licence of its weights", _text(licence)],
        ["alpha network", f"{_code(alpha['name'] or 'not named')}, {alpha['parameters']} weights"],
        ["hash of its weights", _code(alpha["state_hash"])],
        ["versions", _text(", ".join(f"{name} {version}" for name, version in versions.items()))],
        ["device", _text(manifest["device"])],
    ]
    return (
        _table(["", ""], rows) + "\n\n**Check the generator's own licence, and that of the images it was trained on, "
        "before you publish or sell this data or what is trained on it.** labels4free adds no condition of its own."
    )


def _numbers(manifest: Mapping[str, Any]) -> str:
    summary, num = manifest["summary"], manifest["num"]
    dropped = sum(summary["dropped"].values())
    rows = [
        ["candidates", f"{num}"],
        ["kept", f"{summary['kept']} ({summary['kept'] / num:.1%})"],
        ["left out", f"{dropped} ({dropped / num:.1%})"],
        *([f"- {_text(reason)}", f"{count}"] for reason, count in summary["dropped"].items()),
        [
            "foreground ratio of the pairs, mean (sd)",
            f"{summary['foreground_ratio_mean']:.4f} ({summary['foreground_ratio_sd']:.4f})",
        ],
        ["sharpness, mean (1: every alpha is 0 or 1)", f"{summary['sharpness']:.4f}"],
        ["center bias, mean (middle minus border, -1 to 1)", f"{summary['center_bias']:.4f}"],
    ]
    if summary["uncertainty"] is not None:
        rows.append(["uncertainty, mean (0: all augmentations agree)", f"{summary['uncertainty']:.4f}"])
    rows += [
        [f"candidates whose mask is {words}", f"{summary[kind]['count']}"]
        for kind, words in (("empty", "empty"), ("full", "full"), ("inverted", "probably inverted"))
    ]
    if summary["skipped_backgrounds"]:
        rows.append(["background pictures that could not be read", f"{len(summary['skipped_backgrounds'])}"])
    size = sum(entry[3] for entry in manifest["shards"])
    rows.append(["size", f"{size} bytes in {_count(manifest['shard_count'], 'shard')}"])
    return _table(["", ""], rows)


def _again(manifest: Mapping[str, Any]) -> str:
    commands = [
        sample_command(manifest, DATA_SET),
        f"labels4free verify {DATA_SET}                  # every file against its checksum",
        f"labels4free verify {DATA_SET} --recreate I     # pair I alone, anew, and compared with the stored one",
    ]
    return (
        "Pair i is a function of the two networks, the settings and i alone. Names of files are given without their "
        "folders; the state hashes above tell whether they are the right ones.\n\n" + _block("sh", "\n".join(commands))
    )


def sample_command(manifest: Mapping[str, Any], out: str) -> str:
    """The command that made a data set: given again, it makes what is missing.

    Args:
        manifest: See :mod:`labels4free.data.pairs.manifest`.
        out: The folder to write to.
    """
    source, generator = manifest["alpha_network"].get("name"), manifest["generator"].get("name")
    words = ["labels4free", "sample", source or "RUN_OR_ALPHA", "--out", out, "--num", str(manifest["num"])]
    if generator and generator != source:
        words += ["--generator", generator]
    return shlex.join(words + sample_flags(manifest["settings"]))


def sample_flags(settings: Mapping[str, Any]) -> list[str]:
    """The flags of ``labels4free sample`` for the settings of a manifest, but for those that are the defaults."""
    config = SampleConfig.from_json(settings)
    # Filters that are off altogether cannot be asked for by flags one by one.
    preset = config.filters.min_largest_component_fraction is None
    usual, values = as_json(PAPER if preset else SampleConfig()), as_json(config)
    words = ["--preset", "paper"] if preset else []
    (low, high), usually = ((v["min_truncation_psi"], v["max_truncation_psi"]) for v in (values, usual))
    if (low, high) != usually:
        words += ["--truncation-psi", f"{low:g}" if low == high else f"{low:g}:{high:g}"]
    if values["parts"] != usual["parts"]:
        words += ["--include", ",".join(values["parts"])]
    uncertainty = values["uncertainty"]
    if augmentations := [f"{kind}:{uncertainty[kind]}" for kind in ("noise", "mixing") if uncertainty[kind]]:
        words += ["--uncertainty", ",".join(augmentations)]
    for member in uncertainty["ensemble"]:
        words += ["--ensemble", member]
    flags = {**values, **values["filters"]}
    for name in _OTHERWISE:
        del flags[name]
    for name, value in flags.items():
        if value is not None and value != {**usual, **usual["filters"]}[name]:
            flag = "--" + name.replace("_", "-")
            words += [flag] if value is True else [flag, str(value)]
    return words


def without_folders(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """A manifest with files by their names alone, for what is published."""
    settings = manifest["settings"]
    uncertainty = settings["uncertainty"]
    return {
        **manifest,
        **{part: manifest[part] | {"name": _bare(manifest[part]["name"])} for part in ("generator", "alpha_network")},
        "settings": {
            **settings,
            "backgrounds": _bare(settings["backgrounds"]),
            "discriminator": _bare(settings["discriminator"]),
            "uncertainty": {**uncertainty, "ensemble": [_bare(name) for name in uncertainty["ensemble"]]},
        },
    }


def _bare(name: str | None) -> str | None:
    return Path(name).name if name and Path(name).is_absolute() else name


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _block(language: str, text: str) -> str:
    """A block that its text cannot end."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def _text(text: str) -> str:
    """Text as it is: no mark-up, no HTML, one line, no end of a table's cell."""
    line = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{letter}" if letter in "\\`*[]|_" else letter for letter in line)


def _code(text: str) -> str:
    """Text in the letters of a program; HTML's element, since that can hold any text."""
    return f"<code>{_text(text)}</code>"
