from __future__ import annotations

import errno
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tests.refusals import refuses

from labels4free.errors import DataError, Labels4FreeError
from labels4free.generating import latent_files
from labels4free.generating.latent_files import read_latents, write_latents


@pytest.fixture
def ws(tiny_generator):
    """Three latents with rows of their own."""
    rng = torch.Generator().manual_seed(1)
    return torch.randn(3, tiny_generator.num_ws, tiny_generator.w_dim, generator=rng)


def save(path, values, name="ws"):
    """Write a file of latents the way its ending says."""
    if path.suffix == ".npz":
        np.savez(path, **{name: values.numpy()})
    elif path.suffix == ".npy":
        np.save(path, values.numpy())
    elif path.suffix == ".safetensors":
        save_file({name: values.contiguous()}, path)
    else:
        torch.save(values, path)
    return path


@pytest.mark.parametrize("ending", [".npz", ".npy", ".safetensors", ".pt", ".NPZ"])
@pytest.mark.parametrize("name", ["ws", "w"])
def test_full_latents_of_every_kind_of_file(tmp_path, tiny_generator, ws, ending, name):
    path = save(tmp_path / f"x{ending.lower()}", ws, name)
    path = path.rename(tmp_path / f"y{ending}")
    got = read_latents(path, tiny_generator)
    assert got.dtype == torch.float32
    assert got.equal(ws)


@pytest.mark.parametrize("ending", [".npz", ".npy", ".safetensors"])
def test_one_row_goes_to_every_layer(tmp_path, tiny_generator, ws, ending):
    flat = ws[:, 0]
    got = read_latents(save(tmp_path / f"x{ending}", flat, "w"), tiny_generator)
    assert got.shape == ws.shape
    assert all(got[:, row].equal(flat) for row in range(tiny_generator.num_ws))
    single = read_latents(save(tmp_path / f"y{ending}", flat[1], "w"), tiny_generator)
    assert single.equal(got[1:2])


@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4"])
def test_other_floating_point_numbers(tmp_path, tiny_generator, ws, dtype):
    np.savez(tmp_path / "x.npz", w=ws.numpy().astype(dtype))
    got = read_latents(tmp_path / "x.npz", tiny_generator)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, ws, atol=2e-3, rtol=0)


def test_ws_is_preferred_and_the_rest_ignored(tmp_path, tiny_generator, ws):
    np.savez_compressed(tmp_path / "x.npz", w=ws[:1].numpy(), ws=ws.numpy(), w_avg=np.zeros(3), other=np.ones(1))
    assert read_latents(tmp_path / "x.npz", tiny_generator).equal(ws)


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("by_name", [False, True])
def test_rosinality_projections(tmp_path, tiny_generator, ws, plus, by_name):
    """Tensors as they come out of an optimiser: views, and wanting gradients."""
    latents = (ws if plus else ws[:, 0]).clone().requires_grad_()
    results = {
        f"folder/face{k}.png": {
            "img": torch.zeros(3, 8, 8),
            "latent": latents[k],
            "noise": [torch.zeros(1, 1, 4, 4, requires_grad=True)],
        }
        for k in range(2)
    }
    torch.save(results if by_name else next(iter(results.values())), tmp_path / "x.pt")
    got = read_latents(tmp_path / "x.pt", tiny_generator)
    count = 2 if by_name else 1
    assert got.equal(ws[:count] if plus else ws[:count, :1].expand(-1, tiny_generator.num_ws, -1))
    assert not got.requires_grad


@pytest.mark.parametrize("ending", [".npz", ".npy", ".safetensors", ".pt"])
@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 18, 512), "have shape [1, 18, 512]; this generator takes [N, 11, 8] or [N, 8]"),
        ((3, 7), "have shape [3, 7]"),
        ((0, 11, 8), "have shape [0, 11, 8]"),
        ((1, 1, 11, 8), "have shape [1, 1, 11, 8]"),
    ],
)
def test_another_shape_says_which(tmp_path, tiny_generator, ending, shape, said):
    path = save(tmp_path / f"x{ending}", torch.zeros(shape))
    with pytest.raises(DataError) as error:
        read_latents(path, tiny_generator)
    assert said in str(error.value)
    assert str(path) in str(error.value)


def test_a_number_alone_is_no_latent(tmp_path, tiny_generator):
    np.save(tmp_path / "x.npy", np.float32(1))
    refuses(DataError, r"have shape \[\]", read_latents, tmp_path / "x.npy", tiny_generator)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_not_finite(tmp_path, tiny_generator, ws, value):
    ws[1, 2, 3] = value
    refuses(DataError, "not all finite", read_latents, save(tmp_path / "x.npz", ws), tiny_generator)


@pytest.mark.parametrize("ending", [".npz", ".npy", ".safetensors", ".pt"])
def test_whole_numbers_are_no_latents(tmp_path, tiny_generator, ws, ending):
    with pytest.raises(DataError, match=r"must be floating-point numbers, got .*int64"):
        read_latents(save(tmp_path / f"x{ending}", ws.long()), tiny_generator)


@pytest.mark.parametrize("ending", [".npz", ".npy"])
def test_python_objects_are_refused(tmp_path, tiny_generator, ending, monkeypatch):
    called = []

    class Evil:
        def __reduce__(self):
            return called.append, (1,)

    values = np.array([Evil(), None], dtype=object)
    path = tmp_path / f"x{ending}"
    np.savez(path, w=values) if ending == ".npz" else np.save(path, values, allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot be read as a file of latents \(it holds Python objects\)"):
        read_latents(path, tiny_generator)
    assert called == []


@pytest.mark.parametrize("ending", [".npz", ".npy", ".safetensors", ".pt"])
def test_damaged_files(tmp_path, tiny_generator, ws, ending):
    path = save(tmp_path / f"x{ending}", ws)
    whole = path.read_bytes()
    for content in (b"", b"rubbish" * 9, whole[: len(whole) // 2], whole[:-30]):
        path.write_bytes(content)
        refuses(Labels4FreeError, r"x\.", read_latents, path, tiny_generator)


def test_damage_inside_an_archive(tmp_path, tiny_generator, ws):
    np.savez_compressed(tmp_path / "x.npz", ws=ws.numpy())
    content = bytearray((tmp_path / "x.npz").read_bytes())
    content[200:210] = b"\xff" * 10
    (tmp_path / "x.npz").write_bytes(content)
    refuses(DataError, "cannot be read as a file of latents", read_latents, tmp_path / "x.npz", tiny_generator)


def test_an_archive_that_swells_is_not_unpacked(tmp_path, tiny_generator, monkeypatch):
    monkeypatch.setattr(latent_files, "_LARGEST", 100_000)
    np.savez_compressed(tmp_path / "x.npz", w=np.zeros(50_000))
    assert (tmp_path / "x.npz").stat().st_size < 100_000
    refuses(DataError, "has more than 2 GiB in 'w': split", read_latents, tmp_path / "x.npz", tiny_generator)
    np.save(tmp_path / "x.npy", np.zeros(50_000))
    refuses(DataError, "has more than 2 GiB: split", read_latents, tmp_path / "x.npy", tiny_generator)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda p: None, "There is no file of latents at"),
        (lambda p: p.mkdir(), "There is no file of latents at"),
    ],
)
def test_missing(tmp_path, tiny_generator, make, said):
    make(tmp_path / "x.npz")
    refuses(DataError, said, read_latents, tmp_path / "x.npz", tiny_generator)


def test_other_contents_are_named(tmp_path, tiny_generator):
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"must end in \.npz, \.npy, \.safetensors, \.pt"):
        read_latents(tmp_path / "x.png", tiny_generator)
    np.savez(tmp_path / "x.npz", dlatents=np.zeros(3), b=np.zeros(1))
    with pytest.raises(DataError, match="expected an array called ws or w, it has b, dlatents"):
        read_latents(tmp_path / "x.npz", tiny_generator)
    for content in ({}, {"g_ema": {"weight": torch.zeros(1)}}, [torch.zeros(1)]):
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(DataError, match="holds no latents: expected a tensor, or for each image an entry"):
            read_latents(tmp_path / "x.pt", tiny_generator)


def test_ours_is_read_back_by_numpy_and_by_us(tmp_path, tiny_generator, ws):
    path = tmp_path / "new" / "latents.npz"
    write_latents(path, (one[None] for one in ws), [5, 2**32 - 1, -1], tiny_generator.w_avg)
    with np.load(path, allow_pickle=False) as arrays:
        assert sorted(arrays) == ["seeds", "w_avg", "ws"]
        assert arrays["ws"].dtype == np.float32
        assert np.array_equal(arrays["ws"], ws.numpy())
        assert np.array_equal(arrays["w_avg"], tiny_generator.w_avg.numpy())
        assert arrays["seeds"].tolist() == [5, 2**32 - 1, -1]
        assert arrays["seeds"].dtype == np.int64
    assert read_latents(path, tiny_generator).equal(ws)


def test_the_same_latents_give_the_same_bytes(tmp_path, tiny_generator, ws):
    for name in "ab":
        write_latents(tmp_path / name, (one[None] for one in ws), [0, 1, 2], tiny_generator.w_avg)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    with zipfile.ZipFile(tmp_path / "a") as archive:
        assert archive.testzip() is None


def test_failure_leaves_nothing(tmp_path, tiny_generator, ws):
    def fails():
        yield ws[:1]
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"There is no space left to write .*x\.npz"):
        write_latents(tmp_path / "x.npz", fails(), [0, 1], tiny_generator.w_avg)
    assert list(tmp_path.iterdir()) == []
