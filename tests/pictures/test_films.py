from __future__ import annotations

import errno
import io
import threading
import time

import numpy as np
import pytest
from PIL import Image

from labels4free.errors import ConfigError, DataError
from labels4free.pictures import films
from labels4free.pictures.films import FILMS, FilmLayout, check_film, write_film

SIZE = (48, 32)
ENDINGS = [".gif", ".webp", ".apng"]
CLOSE = {".gif": 6, ".webp": 4, ".apng": 0, ".mp4": 4}  # mean difference of a smooth picture, of 255


def frame(k, size=SIZE):
    """A smooth picture, another for each k."""
    y, x = np.mgrid[0 : size[1], 0 : size[0]]
    channels = (x * 255 // size[0], y * 255 // size[1], np.full_like(x, 30 * k % 256))
    return np.stack(channels, axis=-1).astype(np.uint8)


def layout(frames, fps=10, size=SIZE):
    return FilmLayout(size, frames, fps)


def read(path):
    """All frames and their durations in milliseconds, as Pillow understands the file."""
    with Image.open(path) as film:
        pictures, durations = [], []
        for k in range(film.n_frames):
            film.seek(k)
            film.load()
            pictures.append(np.array(film.convert("RGB")))
            durations.append(film.info["duration"])
        return pictures, durations, film.info.get("loop")


@pytest.mark.parametrize("ending", ENDINGS)
def test_what_is_written_is_read_back(tmp_path, ending):
    path = tmp_path / f"film{ending}"
    seen = []
    write_film(path, layout(5), (frame(k) for k in range(5)), progress=lambda *state: seen.append(state))
    pictures, durations, loop = read(path)
    assert len(pictures) == 5
    for k, picture in enumerate(pictures):
        assert picture.shape == (32, 48, 3)
        assert np.abs(picture.astype(int) - frame(k)).mean() <= CLOSE[ending]
    assert durations == [100] * 5
    assert loop == 0  # for ever
    assert seen == [(k, 5) for k in range(1, 6)]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ENDINGS)
def test_one_frame_is_a_film_too(tmp_path, ending):
    path = tmp_path / f"film{ending}"
    write_film(path, layout(1), [frame(3)])
    with Image.open(path) as film:
        assert np.abs(np.array(film.convert("RGB")).astype(int) - frame(3)).mean() <= CLOSE[ending]


@pytest.mark.parametrize(("ending", "unit"), [(".gif", 10), (".webp", 1)])
def test_the_whole_film_keeps_time_where_one_frame_cannot(tmp_path, ending, unit):
    path = tmp_path / f"film{ending}"
    write_film(path, layout(24, fps=24), (frame(k) for k in range(24)))
    durations = read(path)[1]
    assert sum(durations) == 1000
    assert set(durations) == {1000 // 24 // unit * unit, (1000 // 24 // unit + 1) * unit}


def test_apng_gives_the_exact_rate(tmp_path):
    write_film(tmp_path / "film.apng", layout(3, fps=24), (frame(k) for k in range(3)))
    assert read(tmp_path / "film.apng")[1] == [pytest.approx(1000 / 24)] * 3


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_same_frames_give_the_same_bytes(tmp_path, ending):
    for name in ("a", "b"):
        write_film(tmp_path / f"{name}{ending}", layout(4), (frame(k) for k in range(4)))
    assert (tmp_path / f"a{ending}").read_bytes() == (tmp_path / f"b{ending}").read_bytes()


def test_gif_frames_have_palettes_of_their_own(tmp_path):
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    plain = [np.full((32, 48, 3), colour, dtype=np.uint8) for colour in colours]
    write_film(tmp_path / "film.gif", layout(3), plain)
    for picture, colour in zip(read(tmp_path / "film.gif")[0], colours, strict=True):
        assert np.abs(picture.astype(int) - colour).max() <= 4


def test_mp4_is_read_back(tmp_path):
    av = pytest.importorskip("av")
    path = tmp_path / "film.mp4"
    write_film(path, layout(5, size=(64, 48)), (frame(k, (64, 48)) for k in range(5)))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 10
        pictures = [f.reformat(format="rgb24", src_colorspace="ITU709").to_ndarray() for f in container.decode(stream)]
    assert len(pictures) == 5
    for k, picture in enumerate(pictures):
        assert np.abs(picture.astype(int) - frame(k, (64, 48))).mean() <= CLOSE[".mp4"]


def interrupted_frames():
    yield frame(0)
    yield frame(1)
    raise KeyboardInterrupt


@pytest.mark.parametrize("ending", [*ENDINGS, ".mp4"])
def test_an_interrupt_leaves_the_older_film(tmp_path, ending):
    if ending == ".mp4":
        pytest.importorskip("av")
    path = tmp_path / f"film{ending}"
    path.write_bytes(b"older")
    with pytest.raises(KeyboardInterrupt):
        write_film(path, layout(5), interrupted_frames())
    assert path.read_bytes() == b"older"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert not [t for t in threading.enumerate() if t.name.startswith("film")]


def test_frames_do_not_pile_up_where_encoding_is_slow(tmp_path, monkeypatch):
    begun = finished = most_ahead = 0
    kind = FILMS[".apng"]

    def slowly(one):
        nonlocal finished
        time.sleep(0.003)
        encoded = kind.encode(one)
        finished += 1
        return encoded

    def frames():
        nonlocal begun, most_ahead
        for k in range(60):
            begun += 1
            most_ahead = max(most_ahead, begun - finished)
            yield frame(k)

    monkeypatch.setitem(FILMS, ".apng", kind._replace(encode=slowly))
    write_film(tmp_path / "film.apng", layout(60), frames())
    assert begun == finished == 60
    assert 2 <= most_ahead <= 8


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("film.avi", {}, r"must end in .gif, .webp, .apng, .mp4; got 'film.avi'"),
        ("film", {}, "got 'film'"),
        ("film.gif", {"fps": 51}, r"fps must lie in \[1, 50\] for .gif, got 51"),
        ("film.apng", {"fps": 0}, r"fps must lie in \[1, 240\] for .apng, got 0"),
        ("film.mp4", {"size": (1, 1)}, "An .mp4 needs even sides, got 1x1"),
    ],
)
def test_films_that_cannot_be(tmp_path, monkeypatch, name, changes, said):
    monkeypatch.setattr(films, "find_spec", lambda name: object())
    wanted = FilmLayout(**({"size": SIZE, "frames": 2, "fps": 10} | changes))
    for act in (check_film, lambda path, wanted: write_film(path, wanted, [])):
        with pytest.raises(ConfigError, match=said):
            act(tmp_path / name, wanted)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("film.mp4", r"PyAV, which is not installed: .*pip install av.*\.webp, \.apng"),
        ("film.webp", r"built without WebP: choose \.apng or \.gif"),
        ("folder.gif", "is a folder, a film is one file"),
    ],
)
def test_what_is_missing_is_named_with_the_way_round_it(tmp_path, monkeypatch, name, said):
    monkeypatch.setattr(films, "find_spec", lambda name: None)
    monkeypatch.setattr(films.features, "check", lambda name: False)
    (tmp_path / "folder.gif").mkdir()
    with pytest.raises(ConfigError, match=said):
        check_film(tmp_path / name, layout(2))


@pytest.mark.parametrize("given", [3, 5])
def test_another_number_of_frames_is_an_error(tmp_path, given):
    with pytest.raises(DataError, match=f"A film of 4 frames was begun, got {given}"):
        write_film(tmp_path / "film.apng", layout(4), (frame(k) for k in range(given)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [frame(0, (32, 32)), frame(0).astype(np.float32), frame(0)[..., :1]])
def test_frames_of_another_kind_are_an_error(tmp_path, bad):
    with pytest.raises(DataError, match=r"A frame must be uint8 \[32, 48, 3\], got "):
        write_film(tmp_path / "film.gif", layout(2), [frame(0), bad])
    assert list(tmp_path.iterdir()) == []


def test_no_space_is_one_sentence(tmp_path, monkeypatch):
    class Full(io.BytesIO):
        def write(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        FILMS[".gif"].write(Full(), layout(2), [])

    def fail(file, layout, frames):
        file.write(b"GIF89a")
        list(frames)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setitem(FILMS, ".gif", FILMS[".gif"]._replace(write=fail))
    with pytest.raises(DataError, match=r"There is no space left to write .*film\.gif"):
        write_film(tmp_path / "film.gif", layout(2), [frame(0), frame(1)])
    assert list(tmp_path.iterdir()) == []
