"""Checkpoints of other projects: what a file is, how it is read safely, and who converts it."""

from __future__ import annotations

import contextlib
import dataclasses
import zipfile
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from labels4free.checkpoints.contents import MEAN_W_NOTE, Checkpoint
from labels4free.checkpoints.foreign import nvlabs, rosinality, tensorflow
from labels4free.checkpoints.foreign.conversion import ignore_entries, listed
from labels4free.checkpoints.foreign.openvino_ir import mobile_stylegan_from_openvino
from labels4free.checkpoints.foreign.original_alpha import ENTRIES, alpha_network_from_original
from labels4free.checkpoints.native import is_safetensors, read_native_header
from labels4free.checkpoints.untrusted.inert_data import opened
from labels4free.checkpoints.untrusted.safe_pickle import read_pickle
from labels4free.checkpoints.untrusted.torch_file import is_torch_file, read_torch_file
from labels4free.errors import CheckpointError
from labels4free.files import unreadable

if TYPE_CHECKING:
    from collections.abc import Callable

_HEAD_BYTES = 4096
_MAX_XML_BYTES = 64_000_000
_MAX_BIN_BYTES = 4_000_000_000
_MAX_NAMES = 20_000
_SUPPORTED = (
    "expected a checkpoint of rosinality or of the original Labels4Free (.pt), a StyleGAN2 pickle of NVIDIA (.pkl), "
    "MobileStyleGAN as OpenVINO IR (.xml and .bin), or a native file (.safetensors)"
)
_FETCH = "it is not the network; fetch the file itself."
_UNPACK = "unpack it and give the checkpoint in it."
_OTHER = f"it cannot be converted; {_SUPPORTED}."

_STARTS: tuple[tuple[bytes, str, str], ...] = (
    (b"\x89PNG\r\n\x1a\n", "a PNG picture", _OTHER),
    (b"\xff\xd8\xff", "a JPEG picture", _OTHER),
    (b"GIF8", "a GIF picture", _OTHER),
    (b"%PDF", "a PDF document", _OTHER),
    (b"\x93NUMPY", "a NumPy array (.npy)", _OTHER),
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras or h5py)", _OTHER),
    (b"GGUF", "a GGUF language model", _OTHER),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"BZh", "a bzip2 archive", _UNPACK),
    (b"\xfd7zXZ\0", "an xz archive", _UNPACK),
    (b"(\xb5/\xfd", "a Zstandard archive", _UNPACK),
    (b"7z\xbc\xaf'\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"PK\5\6", "an empty zip archive", "fetch it again."),
    (b"version https://git-lfs", "a Git LFS pointer", "fetch the file that it stands for: git lfs pull"),
)
"""Beginning of a file, what it then is, what to do."""


class IrFiles(NamedTuple):
    """Contents of the two networks of a generator in OpenVINO IR."""

    mapping_xml: bytes
    mapping_bin: bytes
    synthesis_xml: bytes
    synthesis_bin: bytes


@dataclass(frozen=True)
class Converter:
    """One format of another project.

    Attributes:
        title: What it is called in lists.
        matches: Whether the content of a file, read as inert data, looks like it.
        convert: Converts the content; the text names the file in messages. What it gives has the networks, ignored
            entries and notes; :func:`read_foreign` adds the rest.
    """

    title: str
    matches: Callable[[object], bool]
    convert: Callable[[Any, str], Checkpoint]


def read_foreign(path: str | Path) -> Checkpoint:
    """Read a checkpoint of another project and convert what it holds; nothing in it is ever executed.

    Args:
        path: A ``.pt`` or ``.pkl`` file; or the folder of a generator in OpenVINO IR, or one of its ``.xml`` files.

    Raises:
        CheckpointError: If it is missing, damaged, or none of :data:`CONVERTERS` (says what it looks like), or the
            converter finds a tensor missing, left over, of another shape or kind, or an unsupported network.
    """
    path = Path(path)
    data = _read(path)
    for name, converter in CONVERTERS.items():
        if converter.matches(data):
            found = converter.convert(data, str(path))
            if not found.held:
                reasons = " ".join(f"{entry}: {reason}" for entry, reason in found.ignored.items())
                raise CheckpointError(f"{path} holds no network that can be used. {reasons}".strip())
            settings = _training_settings(data)
            return dataclasses.replace(found, path=path, format=name, title=converter.title, settings=settings)
    raise CheckpointError(f"{path} holds {_content(data)}; {_SUPPORTED}.")


def _is_alpha(data: object) -> bool:
    """Whether a checkpoint, or a bare state dict, is of an alpha network of the original Labels4Free."""
    if not isinstance(data, dict):
        return False
    return any(entry in data for entry in ENTRIES) or "conv_n.weight" in data or "module.conv_n.weight" in data


def _convert_alpha(data: dict[str, Any], what: str) -> Checkpoint:
    """Convert a checkpoint of the original alpha training; its generator and discriminator too, if they are whole."""
    found = alpha_network_from_original(data, what)
    if not found.entry:
        return Checkpoint(alpha_network=found.network, notes=found.notes)
    whole, ignored = {}, {}
    tests = {"g": ("generator", rosinality.is_generator), "d": ("discriminator", rosinality.is_discriminator)}
    for entry, (part, is_whole) in tests.items():
        if is_whole(data.get(entry)):
            whole[entry] = data[entry]
        elif entry in data:
            size = len(data[entry]) if isinstance(data[entry], dict) else 0
            ignored[entry] = f"{entry} holds {size} tensors, no whole {part}"
    networks = rosinality.convert_networks(whole, what)
    for entry in ENTRIES:
        if entry in data and entry != found.entry:
            ignored[entry] = f"{found.entry} is used"
    ignored |= ignore_entries(data, rosinality.WITHOUT_USE, ("g", "d", *ENTRIES), what)
    notes = (*found.notes, *networks.notes)
    return Checkpoint(networks.generator, networks.discriminator, found.network, ignored=ignored, notes=notes)


def _convert_ir(data: IrFiles, _: str) -> Checkpoint:
    """Convert a MobileStyleGAN in OpenVINO IR."""
    strengths = "Strengths of the noise are the deviations of the fixed noise maps."
    return Checkpoint(mobile_stylegan_from_openvino(*data), notes=(MEAN_W_NOTE, strengths))


CONVERTERS: dict[str, Converter] = {
    "labels4free": Converter("alpha network of the original Labels4Free", _is_alpha, _convert_alpha),
    rosinality.NAME: Converter("StyleGAN2 of rosinality", rosinality.matches, rosinality.convert),
    nvlabs.NAME: Converter("StyleGAN2 of NVIDIA (PyTorch)", nvlabs.matches, nvlabs.convert),
    tensorflow.NAME: Converter("StyleGAN2 of NVIDIA (TensorFlow)", tensorflow.matches, tensorflow.convert),
    "openvino-ir": Converter("MobileStyleGAN in OpenVINO IR", lambda data: isinstance(data, IrFiles), _convert_ir),
}
"""Every format by name, in the order in which they are tried: the more special ones first."""


def _read(path: Path) -> object:
    """The content of a file as inert data, by what the file begins with."""
    if path.is_dir() or path.suffix.lower() == ".xml":
        return _read_ir(path)
    with opened(path) as (file, size):
        start = file.read(_HEAD_BYTES)
        file.seek(max(0, size - 8))
        end = file.read(8)
    if start.startswith(b"PK\3\4"):
        _require_checkpoint_archive(path)
        return read_torch_file(path)
    if start.startswith(b"\x80"):
        return read_torch_file(path) if is_torch_file(start[:20]) else read_pickle(path)
    what, advice = _unsupported(path, start, end)
    raise CheckpointError(f"{path} is {what}: {advice}")


def _unsupported(path: Path, start: bytes, end: bytes) -> tuple[str, str]:
    """What a file that no reader is for looks like, and what to do about it."""
    for begin, what, advice in _STARTS:
        if start.startswith(begin):
            return what, advice
    if is_safetensors(start):
        return _safetensors(path)
    decoded = start.decode("utf-8", "ignore")
    text = decoded.lstrip("\ufeff \t\r\n")
    if text[:1] == "<" and any(tag in text[:1024].lower() for tag in ("<html", "<!doctype html", "<head", "<body")):
        return "a web page", f"the download saved an error or confirmation page; {_FETCH}"
    if path.suffix == ".bin" and path.with_suffix(".xml").exists():
        return "the file of an OpenVINO IR's constants", f"give {path.with_suffix('.xml')} or the folder."
    names = (".index", ".meta", ".data-00000-of-00001")
    # The table of a TensorFlow checkpoint ends in this number (tensorflow/tensorflow core/lib/io/format.h).
    if path.name == "checkpoint" or path.name.endswith(names) or end == b"\x57\xfb\x80\x8b\x24\x75\x47\xdb":
        return "part of a TensorFlow checkpoint", f"of TensorFlow's files only network pickles are read; {_SUPPORTED}."
    if path.suffix == ".onnx" or (start[:1] == b"\x08" and start[2:3] == b"\x12" and b"ytorch" in start[:64]):
        return "an ONNX model", _OTHER
    if start[4:8] == b"TFL3":
        return "a TensorFlow Lite model", _OTHER
    if start[:4] == b"RIFF" and start[8:12] == b"WEBP":
        return "a WebP picture", _OTHER
    if start[257:262] == b"ustar":
        return "a tar archive", f"{_UNPACK[:-1]}; of PyTorch's own files those of before version 0.4 are not read."
    if path.suffix.lower() in (".pkl", ".pt", ".pth", ".pickle") and start[:1] in (b"(", b"c", b"]", b"}", b"I", b"i"):
        return "no pickle of protocol 2 to 5", _OTHER
    whole = len(decoded.encode()) > len(start) - 4  # the last character may be cut
    if text and whole and all(c.isprintable() or c.isspace() for c in text):
        return f"a text file that begins with {text[:40]!r}", _OTHER
    return "a binary file of a kind that is not known", _OTHER


def _safetensors(path: Path) -> tuple[str, str]:
    """What a safetensors file is."""
    with contextlib.suppress(CheckpointError):
        kind = read_native_header(path).kind
        return f"a native file of kind {kind!r} already", "there is nothing to convert."
    return "a safetensors file of another project", _OTHER


def _require_checkpoint_archive(path: Path) -> None:
    """Raise where a zip archive is clearly something else than PyTorch's; damaged ones are left to its reader."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()[:_MAX_NAMES]
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError):
        return
    if not names or any(name.rpartition("/")[2] == "data.pkl" for name in names):
        return
    if all(name.endswith(".npy") for name in names):
        raise CheckpointError(f"{path} is an archive of NumPy arrays (.npz): {_OTHER}")
    raise CheckpointError(f"{path} is a zip archive of {listed(names)}, not one of PyTorch's: {_UNPACK}")


def _read_ir(path: Path) -> IrFiles:
    """The four files of a generator in OpenVINO IR, from their folder or one of the two ``.xml`` files."""
    folder = path if path.is_dir() else path.parent
    if not path.exists():
        raise CheckpointError(unreadable(path, FileNotFoundError()))
    try:
        names = sorted(entry.name for entry in folder.iterdir())
    except OSError as error:
        raise CheckpointError(unreadable(folder, error)) from error
    graphs = [name for name in names if name.lower().endswith(".xml")]
    if not graphs:
        raise CheckpointError(
            f"{path} is a folder of {listed(names) or 'nothing'}, without an OpenVINO IR (.xml and .bin files); give "
            "the checkpoint file itself."
        )
    found = [[folder / name for name in graphs if network in name.lower()] for network in ("mapping", "synthesis")]
    if [len(of_network) for of_network in found] != [1, 1] or (path != folder and [path] not in found):
        raise CheckpointError(
            f"{path} is no OpenVINO IR of a generator: expected the files MappingNetwork.xml and SynthesisNetwork.xml "
            f"(one name with 'mapping', one with 'synthesis') in {folder}, which has {listed(graphs)}."
        )
    files = []
    for (graph,) in found:
        files += [_bytes(graph, _MAX_XML_BYTES), _bytes(graph.with_suffix(".bin"), _MAX_BIN_BYTES)]
    return IrFiles(*files)


def _bytes(path: Path, limit: int) -> bytes:
    """The content of a file of at most this many bytes."""
    with opened(path) as (file, size):
        if size > limit:
            raise CheckpointError(f"{path} has {size:,} bytes, at most {limit:,} are read.")
        return file.read()


def _training_settings(data: object) -> dict[str, Any]:
    """The settings of the training that wrote a file, under rosinality's or NVIDIA's name for them."""
    if not isinstance(data, dict):
        return {}
    settings = data.get("args", data.get("training_set_kwargs"))
    settings = vars(settings) if isinstance(settings, Namespace) else settings
    return settings if isinstance(settings, dict) else {}


def _content(data: object) -> str:
    """What the content of a readable file looks like."""
    if not isinstance(data, dict):
        return f"a {type(data).__name__}"
    text = f"a dictionary with the entries {listed(data, 8) or '(none)'}"
    keys = [str(key) for key in data]
    if any(key.startswith(("synthesis.", "mapping.")) for key in keys):
        return f"{text}, the tensors of a network of NVIDIA's without its settings (give the .pkl they come from)"
    inner = next((name for name in keys if isinstance(data.get(name), dict) and data[name]), None)
    return text if inner is None else f"{text}, {listed([inner])!r} with {listed(data[inner])}"
