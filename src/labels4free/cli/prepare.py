"""``labels4free prepare``: images for training, cropped and resized once, in one store."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from labels4free.cli.progress import progress_bar

_NAMED = 5


def run(
    source: Annotated[Positional[Path], arg(metavar="SRC")],
    out: Annotated[Positional[Path], arg(metavar="OUT")],
    *,
    sizes: Annotated[str, arg(metavar="R,R,...")] = "128,256,512,1024",
    format: Annotated[  # noqa: A002  the flag's name
        str | None, arg(metavar="{lmdb,webdataset,folder}", help_behavior_hint="(default: lmdb)")
    ] = None,
    resample: Literal["lanczos", "box", "bicubic", "bilinear"] = "lanczos",
    encoding: Literal["jpeg", "png", "webp"] = "jpeg",
    quality: int = 100,
    shard_images: Annotated[int, arg(metavar="N")] = 1000,
    workers: Annotated[int | None, arg(metavar="N", help_behavior_hint="")] = None,
) -> None:
    """Crop images to their central squares, resize and encode them, and write them into one store for training.

    The same command continues where an interrupted one stopped. Images that cannot be read are skipped and listed.

    Args:
        source: A folder of images, a zip file, an LMDB, tar shards or a pattern such as 'set-{000..009}.tar'.
        out: The new store, a folder.
        sizes: Sides of the pictures in pixels; each image is written once for each.
        format: What to write: an LMDB as rosinality's StyleGAN2 reads it, tar shards, or a folder of files.
        resample: Filter that resizes.
        encoding: Of the pictures.
        quality: Of JPEG and WebP, 1 to 100.
        shard_images: Images in each shard of a webdataset.
        workers: Processes at work, by default one for each core. The result does not depend on it.
    """
    from labels4free.data.images.prepare import PrepareConfig, prepare_images
    from labels4free.errors import ConfigError

    if format is None and out.suffix.lower() == ".zip":
        raise ConfigError(
            f"Zip files are read, not written, and {out} would be one: choose a folder, which becomes an LMDB, or "
            "--format webdataset or folder."
        )

    config = PrepareConfig(
        sizes=_parse_sizes(sizes),
        format=format or "lmdb",  # type: ignore[arg-type]  # PrepareConfig refuses others
        resample=resample,
        encoding=encoding,
        quality=quality,
        shard_images=shard_images,
        workers=workers,
    )
    done = total = 0
    try:
        with progress_bar("Preparing") as update:
            start: tuple[float, int] | None = None

            def show(now_done: int, now_total: int) -> None:
                nonlocal done, total, start
                done, total = now_done, now_total
                start = start or (time.monotonic(), done)
                seconds = time.monotonic() - start[0]
                update(done, total, {"images/s": (done - start[1]) / seconds} if seconds > 1 else None)

            summary = prepare_images(source, out, config, progress=show)
    except KeyboardInterrupt:
        print(f"{done} of {total} images are done; the same command goes on from about there.", file=sys.stderr)
        raise
    what = f"{summary.images} images of {', '.join(map(str, config.sizes))} pixels"
    print(f"{what} in {out}" if summary.new else f"{out} is complete already: {what}")
    if summary.enlarged:
        largest = config.sizes[-1]
        print(f"{summary.enlarged} of them were smaller than {largest} pixels and have been enlarged to it.")
    for reason in list(summary.skipped.values())[:_NAMED]:
        print(f"Skipped: {reason}")
    if len(summary.skipped) > _NAMED:
        print(f"And {len(summary.skipped) - _NAMED} more; labels4free-images.json in {out} lists them all.")


def _parse_sizes(text: str) -> tuple[int, ...]:
    from labels4free.errors import ConfigError

    try:
        return tuple(int(size) for size in text.split(","))
    except ValueError:
        raise ConfigError(f"sizes must be numbers with commas between them, such as 128,256; got {text!r}.") from None
