"""The ``labels4free`` command: a table of verbs, each a function ``run`` in a module of its own.

A verb's module is imported when that verb is called; its signature and docstring are its flags and its help. Neither
this module nor a verb's may import PyTorch at import time, so that ``--help`` answers at once: a verb imports what it
needs inside ``run``.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from labels4free import __version__
from labels4free.errors import ConfigError, Labels4FreeError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUCCESS, FAILURE, INTERRUPTED = 0, 2, 130


class Verb(NamedTuple):
    """One verb of the command: the module whose function ``run`` does it, and its line in the help."""

    module: str
    help: str

    def function(self) -> Callable[..., int | None]:
        """Import the verb's function: it returns None, or an exit code of its own."""
        function: Callable[..., int | None] = import_module(self.module).run
        return function


VERBS = {
    "demo": Verb("labels4free.cli.demo", "fetch a face generator, train an alpha network, sample it, write a report"),
    "train": Verb("labels4free.cli.train", "train an alpha network on a generator: no labels, no images needed"),
    "train-generator": Verb(
        "labels4free.cli.train_generator",
        "train a StyleGAN2 generator on your own images, from nothing or a checkpoint",
    ),
    "from-photos": Verb(
        "labels4free.cli.from_photos", "learn to cut a class out of photos, from photos of it alone: the whole chain"
    ),
    "distill": Verb(
        "labels4free.cli.distill", "train a small segmenter for photos on pairs of a trained alpha network"
    ),
    "watch": Verb("labels4free.cli.watch", "show how a training run is doing, while it goes on or afterwards"),
    "sample": Verb("labels4free.cli.sample", "write images with their masks from a trained alpha network"),
    "evaluate": Verb(
        "labels4free.cli.evaluate", "score predicted masks against true ones: every figure with its interval"
    ),
    "segment": Verb("labels4free.cli.segment", "cut people out of photos: masks, alpha, cut-outs, new backgrounds"),
    "composite": Verb(
        "labels4free.cli.composite", "keep the background of an edited picture: its person over the original"
    ),
    "export": Verb("labels4free.cli.export", "write a segmenter or an alpha network for other runtimes, as ONNX"),
    "generate": Verb("labels4free.cli.generate", "write pictures of a generator, grids of mixed styles, and films"),
    "metrics": Verb(
        "labels4free.cli.metrics", "measure a generator beside real images: Fréchet and kernel distance, path length"
    ),
    "directions": Verb(
        "labels4free.cli.directions", "find what a generator can be moved along, ranked by object and scene: a page"
    ),
    "edit": Verb("labels4free.cli.edit", "move pictures along a direction, and keep the background that each had"),
    "project": Verb(
        "labels4free.cli.project", "find photos in a generator: the latents whose pictures come closest to them"
    ),
    "verify": Verb("labels4free.cli.verify", "check a data set against its checksums, make single pairs anew"),
    "inspect": Verb("labels4free.cli.inspect_file", "say what a checkpoint is and holds, and draw a picture with it"),
    "convert": Verb("labels4free.cli.convert", "turn another project's checkpoint into a native one, and check it"),
    "presets": Verb("labels4free.cli.presets", "list the settings that training knows by name, or print one in full"),
    "prepare": Verb("labels4free.cli.prepare", "crop and resize images for training, into a store that reads fast"),
    "models": Verb("labels4free.cli.models", "list the models that can be fetched by name, and fetch one"),
}

RENAMED_FLAGS = {
    "sample": {
        "--min-coverage": "--min-foreground-ratio",
        "--max-coverage": "--max-foreground-ratio",
        "--min-largest-share": "--min-largest-component-fraction",
        "--min-binarity-quantile": "--min-sharpness-quantile",
        "--min-realism-quantile": "--min-discriminator-score-quantile",
    },
}
"""Verb -> flags that had another name before -> what they are called now."""


_LOCAL_RANK = re.compile("--local[-_]rank=[0-9]+")  # torch.distributed.launch says so beside the environment


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program's name; None means those of the process.

    Returns:
        The exit code: 0 for success, 2 for an error the user can act on (its one sentence goes to stderr), 130 after
        an interrupt.

    Raises:
        SystemExit: From a verb's own parser, after ``--help`` (code 0) or a usage error (code 2).
    """
    _open_streams()
    try:
        code = _answer(list(sys.argv[1:] if argv is None else argv) or ["--help"])
    except SystemExit:
        _flush()
        raise
    return _flush() or code


def overview() -> str:
    """Return the help of the command as a whole."""
    verbs = "\n".join(f"  {name:<15} {verb.help}" for name, verb in VERBS.items())
    return f"""usage: labels4free VERB ...

Foreground masks for free, out of a pretrained image generator.

verbs:
{verbs}

options:
  -h, --help   show this help, or with a verb that verb's
  --version    show the version"""


def _answer(words: list[str]) -> int:
    """Do what the command line asks for; returns the exit code."""
    verb, *rest = words
    try:
        if verb in ("-h", "--help"):
            print(overview())
            return SUCCESS
        if verb == "--version":
            print(f"labels4free {__version__}")
            return SUCCESS
        if verb not in VERBS:
            return _fail(f"Unknown verb {verb!r}; the verbs are {', '.join(VERBS)}. See labels4free --help.")
        _log_to_stderr()
        code = _call(verb, rest)
    except BrokenPipeError:  # whoever read our output has seen enough, as in `labels4free models list | head -1`
        _drop_output()
        return SUCCESS
    except Labels4FreeError as error:
        return FAILURE if error.said else _fail(str(error))
    except OSError as error:  # no space, no permission: the file system's own words serve
        return _fail(f"{error.strerror}: {error.filename}" if error.filename else str(error))
    except KeyboardInterrupt:
        _fail("Interrupted.")
        return INTERRUPTED
    return SUCCESS if code is None else code


def _open_streams() -> None:
    """Let every name be printed, and have streams where there are none (``>&-``): no file may take their numbers."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _flush() -> int:
    """Print what waits to be printed while there is still an exit code to tell of it."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _drop_output()
    except OSError as error:
        _drop_output()
        return _fail(f"The output cannot be printed: {error.strerror}.")
    return SUCCESS


def _drop_output() -> None:
    """Have nothing more printed: what could not be would be tried again when the process ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _call(verb: str, arguments: list[str]) -> int | None:
    import tyro

    from labels4free.cli.original_flags import ORIGINAL_FLAGS

    words = [word for word in arguments if not _LOCAL_RANK.fullmatch(word)]
    renamed = {flag: f"is called {now} now" for flag, now in RENAMED_FLAGS.get(verb, {}).items()}
    originals = {_dashed(flag): f"of the original code {now}" for flag, now in ORIGINAL_FLAGS.get(verb, {}).items()}
    known = {**originals, **renamed}
    flags = dict.fromkeys(word.partition("=")[0] for word in words)
    if said := [f"{flag} {known[_dashed(flag)]}" for flag in flags if _dashed(flag) in known]:
        raise ConfigError(f"{'; '.join(said)}.")
    return tyro.cli(VERBS[verb].function(), prog=f"labels4free {verb}", args=words)


def _dashed(flag: str) -> str:
    return "--" + flag[2:].replace("_", "-") if flag.startswith("--") else flag


def _fail(message: str) -> int:
    print(f"labels4free: {message}", file=sys.stderr)
    return FAILURE


class _Stderr(logging.Handler):
    """Writes to what stderr is at that moment: a progress bar may have put itself before it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _log_to_stderr() -> None:
    logger = logging.getLogger("labels4free")
    logger.setLevel(logging.INFO)
    logger.handlers = [_Stderr()]
