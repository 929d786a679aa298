"""Backgrounds with the clutter of photos: dead leaves, foliage, architecture, and landscapes of them.

Everything is a polygon in the unit square (x to the right, y down) that goes through a perspective view onto a
canvas of twice the size; later ones cover earlier ones, as things do. The same numbers give the same scene at
every size, only finer (but for grain, which is a matter of pixels).
"""

from __future__ import annotations

import colorsys
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from labels4free.seeds import SeededRandom

    Floats = NDArray[np.floating[Any]]
    Painter = Callable[["_Canvas", SeededRandom, Floats, float], None]

_REFERENCE = 256  # lengths written as n / _REFERENCE are pixels of an image of this side
_FINER = 2  # canvas pixels a pixel: edges come out smooth
_CODES = 256  # surfaces a canvas can tell apart
_NEAREST = 0.15  # least distance that a view divides by; what is nearer lies far outside the picture


def dead_leaves(random: SeededRandom, size: int) -> Tensor:
    """Shapes over each other, radii as r ** -3 (Lee, Mumford, Huang 2001); [1, 3, S, S], within [-1, 1.2]."""
    return _painted(random, size, _paint_shapes, _view(random, 0.5))


def foliage(random: SeededRandom, size: int) -> Tensor:
    """Leaves at several depths, darker behind, with branches between them; [1, 3, S, S], within [-1, 1.2]."""
    return _painted(random, size, _paint_foliage, _view(random, 0.2))


def architecture(random: SeededRandom, size: int) -> Tensor:
    """Walls with windows, panels, bricks, books, railings and writing, at an angle; [1, 3, S, S], within [-1, 1.2]."""
    return _painted(random, size, _paint_building, _view(random, 0.6))


def landscape(random: SeededRandom, size: int) -> Tensor:
    """Ground up to a horizon, sky or another kind behind, things in front; [1, 3, S, S], within [-1, 1.2]."""
    return _painted(random, size, _paint_landscape, np.eye(3))


class _Canvas:
    """Polygons over each other; beside its colour each leaves the number of its surface, in the alpha channel."""

    def __init__(self, size: int, ground: Floats) -> None:
        self.size = size
        colour = tuple(int(c) for c in ground.clip(0, 255))
        self.image = Image.new("RGBA", (_FINER * size, _FINER * size), (*colour, 0))
        self.pen = ImageDraw.Draw(self.image)

    def paint(self, random: SeededRandom, points: Floats, colours: Floats, view: Floats) -> None:
        """Paint polygons [n, k, 2] in colours [n, 3] of 0 to 255, in their order."""
        seen = points @ view[:2, :2].T + view[:2, 2]
        away = points @ view[2, :2] + view[2, 2]
        seen = seen / np.maximum(away, _NEAREST)[..., None]
        inside = ((seen.max(axis=1) > 0) & (seen.min(axis=1) < 1)).all(axis=1)
        inside &= (away > _NEAREST).all(axis=1)  # else it would be torn
        surfaces = 1 + _rand(random, len(points)) * (_CODES - 1)
        inks = np.concatenate((colours.clip(0, 255), surfaces[:, None]), axis=1).astype(int)[inside]
        flat = (seen[inside] * self.image.width).reshape(-1, 2 * points.shape[1])
        for outline, ink in zip(flat.tolist(), inks.tolist(), strict=True):
            self.pen.polygon(outline, fill=tuple(ink))

    def finished(self, random: SeededRandom) -> Tensor:
        """The picture [1, 3, S, S], each surface with its own shading, stripes and grain."""
        image = torch.from_numpy(np.array(self.image.convert("RGB").reduce(_FINER))).permute(2, 0, 1)[None] / 255
        surface = torch.from_numpy(np.array(self.image.getchannel("A"))[::_FINER, ::_FINER].astype(np.int64))
        angle = torch.from_numpy(_rand(random, _CODES)) * 2 * math.pi
        rate = 2 * math.pi * torch.exp(torch.from_numpy(_rand(random, _CODES)) * math.log(40))
        waves = torch.stack((angle.cos() * rate, angle.sin() * rate, torch.from_numpy(_rand(random, _CODES)) * 6.3))
        across, down, start = waves.float()[:, surface]
        at = (torch.arange(self.size) + 0.5) / self.size
        wave = torch.sin(across * at[None, :] + down * at[:, None] + start)
        fraction = _rand(random, 2, _CODES) ** 2
        fraction[0, 0] = 0  # no stripes on the bare canvas: they would run through everything
        amounts = torch.from_numpy(fraction).float()[:, surface] * random.uniform(0, 0.45)
        grain = 0.5 * random.normal(self.size, self.size) + smooth_noise(random, self.size, 64)[0, 0]
        return (image * (1 + amounts[0] * wave + 0.6 * amounts[1] * grain)).clamp(0, 1.1) * 2 - 1


def _painted(random: SeededRandom, size: int, painter: Painter, view: Floats) -> Tensor:
    canvas = _Canvas(size, _palette(random, 1)[0])
    painter(canvas, random, view, 1.0)
    return canvas.finished(random)


def _paint_shapes(canvas: _Canvas, random: SeededRandom, view: Floats, fraction: float) -> None:
    shadows = random.chance(0.35)
    count = int(fraction * log_uniform(random, 150, 400 if shadows else 800))
    least, most = random.uniform(2, 6) / _REFERENCE, random.uniform(40, 100) / _REFERENCE
    radius = _radii(random, count, least, most)
    cover = count // 5  # the first ones are large, so that little of the bare canvas stays
    radius[:cover] = np.maximum(radius[:cover], random.uniform(0.06, 0.13))
    allowed = np.flatnonzero(_rand(random, 4) < 0.5)
    kinds = allowed[_below(random, count, len(allowed))] if len(allowed) else _below(random, count, 4)
    outlines = _outlines(random, kinds)
    outlines[..., 0] *= 1 + (random.uniform(0, 2.5) * _rand(random, count, 1)) * (kinds > 0)[:, None]
    turn = random.uniform(0, 6.3) + log_uniform(random, 0.05, 3.2) * (2 * _rand(random, count) - 1)
    points = _placed(outlines, radius, turn, _rand(random, count, 2) * 1.4 - 0.2)
    palette = _palette(random, 2 + random.below(5))
    colours = _jittered(random, palette[_below(random, count, len(palette))], random.uniform(3, 25))
    if shadows:
        shift = radius[:, None, None] * np.array([random.uniform(-0.25, 0.25), random.uniform(0, 0.3)])
        points = np.stack((points + shift, points), axis=1).reshape(-1, *points.shape[1:])
        colours = np.stack((colours * random.uniform(0.2, 0.6), colours), axis=1).reshape(-1, 3)
    canvas.paint(random, points, colours, view)


def _radii(random: SeededRandom, count: int, least: float, most: float) -> Floats:
    return np.asarray((_rand(random, count) * (most**-2 - least**-2) + least**-2) ** -0.5)


def _outlines(random: SeededRandom, kinds: NDArray[np.int64]) -> Floats:
    """Outlines [n, 12, 2] about the origin: 0 discs (1 ellipses, once stretched), 2 rectangles, 3 ragged ones."""
    angle = np.arange(12) * (2 * math.pi / 12)
    disc = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=float).repeat(3, axis=0)
    table = np.stack((disc, disc, corners, disc))
    ragged = 0.35 + 1.1 * _rand(random, len(kinds), 12, 1)
    return np.asarray(table[kinds] * np.where((kinds == 3)[:, None, None], ragged, 1))


def _paint_foliage(canvas: _Canvas, random: SeededRandom, view: Floats, fraction: float) -> None:
    depths, hue = 2 + random.below(3), random.uniform(0.05, 0.42) if random.chance(0.8) else random.uniform(0, 1)
    palette = _palette(random, 3 + random.below(4), hue)
    bark = _palette(random, 1, random.uniform(0.03, 0.12))[0]
    size, along, spread = log_uniform(random, 3, 15) / _REFERENCE, random.uniform(0, 6.3), random.uniform(0.3, 3.2)
    bare, darkest, thick = random.chance(0.25), random.uniform(0.15, 0.6), random.uniform(1, 7) / _REFERENCE
    side = np.linspace(0, math.pi, 5)
    pointed = random.uniform(0.25, 0.6) * np.sin(side)
    half = np.stack((-np.cos(side), -pointed), axis=1)
    leaf = np.concatenate((half, half[-2:0:-1] * [1, -1]))
    ribs = random.chance(0.4)
    if random.chance(0.5):
        _paint_shapes(canvas, random, view, 0.35 * fraction)
    for depth in range(depths):
        near = (depth + 1) / depths
        light = darkest + (1 - darkest) * near
        if bare or random.chance(0.6):
            _paint_branches(canvas, random, view, bark * light, thick * near)
        count = int(fraction * log_uniform(random, 100, 380) * (0.2 if bare else 1) / (1.6 if ribs else 1))
        tufts = _rand(random, 12, 2) * 1.2 - 0.1
        centre = tufts[_below(random, count, 12)] + random.uniform(0.05, 0.3) * random.normal(count, 2).numpy()
        turn = along + spread * (2 * _rand(random, count) - 1)
        length = size * (0.5 + near) * (0.6 + 0.8 * _rand(random, count))
        colours = _jittered(random, palette[_below(random, count, len(palette))], 14) * light
        colours *= 0.7 + 0.6 * _rand(random, count, 1)
        canvas.paint(random, _placed(leaf[None], length, turn, centre), colours, view)
        if ribs and near == 1:
            canvas.paint(random, _placed(half[None], length, turn, centre), colours * 1.25, view)


def _paint_branches(canvas: _Canvas, random: SeededRandom, view: Floats, colour: Floats, width: float) -> None:
    """Wood that forks twice, each time thinner: a generation of tapering polygons after the other."""
    count = 1 + random.below(4)
    start = np.stack((_rand(random, count), np.full(count, 1.1)), axis=1)
    heading = -math.pi / 2 + random.uniform(-0.8, 0.8) + 0.4 * (2 * _rand(random, count) - 1)
    length, steps = random.uniform(0.5, 1.3), 6
    for generation in range(3):
        bends = heading[:, None] + np.cumsum(0.35 * (2 * _rand(random, len(start), steps) - 1), axis=1)
        ways = np.stack((np.cos(bends), np.sin(bends)), axis=2) * (length / steps)
        spine = np.concatenate((start[:, None], start[:, None] + np.cumsum(ways, axis=1)), axis=1)
        aside = np.stack((-np.sin(heading), np.cos(heading)), axis=1)[:, None]
        taper = (width * np.linspace(1, 0.4, steps + 1))[None, :, None] * aside
        points = np.concatenate((spine + taper, (spine - taper)[:, ::-1]), axis=1)
        canvas.paint(random, points, _jittered(random, np.tile(colour, (len(points), 1)), 10), view)
        forks = 4 if generation else 3
        start = spine[:, 1 + _below(random, forks, steps)].reshape(-1, 2)
        heading = heading.repeat(forks) + random.uniform(0.4, 1) * np.sign(_rand(random, len(start)) - 0.5)
        width, length = width * 0.5, length * random.uniform(0.4, 0.7)


def _paint_building(canvas: _Canvas, random: SeededRandom, view: Floats, fraction: float) -> None:
    """A wall, and one to three things on it or before it."""
    palette = _palette(random, 5)
    walls = (_bricks, _bricks, _panels, _shelves)
    walls[random.below(len(walls))](canvas, random, view, palette)
    objects = (_panels, _rails, _sign, _windows, _windows, _sign)
    for _ in range(1 + random.below(1 + round(2 * fraction))):
        objects[random.below(len(objects))](canvas, random, view, palette[::-1])


def _bricks(canvas: _Canvas, random: SeededRandom, view: Floats, palette: Floats) -> None:
    """Bricks in bond, tiles or boards, level or upright, over mortar."""
    canvas.paint(random, _boxes(np.array([[-0.3, -0.3, 1.6, 1.6]])), palette[1:2], view)
    rows = 8 + random.below(18)
    height, columns = 1.4 / rows, max(1, int(rows / log_uniform(random, 1, 20)))
    width, offset = 1.4 / columns, random.uniform(0.3, 0.5) * random.chance(0.8)
    row, column = (a.ravel() for a in np.mgrid[0:rows, -1:columns])
    gap = random.uniform(0.04, 0.2) * min(height, width)
    left = -0.2 + (column + offset * (row % 2)) * width
    boxes = np.stack((left, row * height - 0.2, 0 * left + width - gap, 0 * left + height - gap), axis=1)
    if random.chance(0.2):
        boxes = boxes[:, [1, 0, 3, 2]]
    colours = _jittered(random, palette[:1].repeat(len(boxes), axis=0), random.uniform(3, 14))
    colours *= 1 + random.uniform(0, 0.5) * (_rand(random, len(boxes), 1) - 0.5)
    canvas.paint(random, _boxes(boxes), colours, view)


def _panels(canvas: _Canvas, random: SeededRandom, view: Floats, palette: Floats) -> None:
    """Panels with mouldings: doors, wainscots, cupboards."""
    boxes = _grid_of_boxes(random, 1 + random.below(4), 1 + random.below(3), random.uniform(0.6, 0.9))
    depth = random.uniform(1, 5) / _REFERENCE
    for _ in range(1 + random.below(3)):
        canvas.paint(random, *_bevelled(boxes, depth, palette[0] * random.uniform(0.8, 1.2), random.chance(0.5)), view)
        boxes = boxes + np.array([3, 3, -6, -6]) * depth
        boxes[:, 2:] = np.maximum(boxes[:, 2:], 2 * depth)


def _windows(canvas: _Canvas, random: SeededRandom, view: Floats, palette: Floats) -> None:
    """Framed openings in rows, dark or mirroring the sky, with bars."""
    boxes = _grid_of_boxes(random, 1 + random.below(5), 1 + random.below(5), random.uniform(0.35, 0.75))
    frame = random.uniform(0.5, 3) / _REFERENCE
    canvas.paint(random, *_bevelled(boxes, frame, palette[1], True), view)
    panes = boxes + np.array([1, 1, -2, -2]) * frame
    glass = _palette(random, 3) * random.uniform(0.2, 1)
    canvas.paint(random, _boxes(panes), _jittered(random, glass[_below(random, len(panes), 3)], 12), view)
    (left, top, width, height), thin = panes.T, np.full(len(panes), frame)
    for part in np.arange(1, 1 + random.below(3)) / 3:
        upright, level = (left + part * width, top, thin, height), (left, top + part * height, width, thin)
        for bar in (upright, level):
            canvas.paint(random, _boxes(np.stack(bar, axis=1)), palette[1:2].repeat(len(left), axis=0), view)


def _shelves(canvas: _Canvas, random: SeededRandom, view: Floats, palette: Floats) -> None:
    """Books or boxes of uneven width and height on boards, dark between them."""
    canvas.paint(random, _boxes(np.array([[-0.3, -0.3, 1.6, 1.6]])), palette[:1] * 0.25, view)
    rows, thin = 2 + random.below(5), random.uniform(0.012, 0.05)
    backs = _palette(random, 5) if random.chance(0.5) else 255 * _rand(random, 6, 3)
    for row in range(rows):
        bottom, height = -0.1 + 1.2 * (row + 1) / rows, 1.2 / rows
        widths = thin * (0.4 + 1.2 * _rand(random, int(1.3 / thin)))
        tall = height * (0.55 + 0.35 * _rand(random, len(widths)))
        left = np.cumsum(widths) - widths - 0.15
        books = np.stack((left, bottom - tall, widths * 0.95, tall), axis=1)
        colours = _jittered(random, backs[_below(random, len(books), len(backs))], 20)
        canvas.paint(random, _boxes(books), colours, view)
        board = np.array([[-0.3, bottom, 1.7, 0.12 * height]])
        canvas.paint(random, *_bevelled(board, 0.02 * height, palette[0], True), view)


def _rails(canvas: _Canvas, random: SeededRandom, view: Floats, palette: Floats) -> None:
    """A railing or fence, or a few poles: each post with a bright and a dark edge."""
    count = 1 + random.below(4) if random.chance(0.3) else 6 + random.below(25)
    thick = log_uniform(random, 1, 7 if count > 5 else 20) / _REFERENCE
    top, tall = random.uniform(-0.2, 0.6), random.uniform(0.4, 1.4)
    left = (np.arange(count) + random.uniform(0, 1)) / count
    left += random.uniform(0, 0.3) * (_rand(random, count) - 0.5) / count
    posts = np.stack((left, 0 * left + top, 0 * left + thick, 0 * left + tall), axis=1)
    beams = np.array([[-0.3, top + part * tall, 1.6, thick * 1.3] for part in (0.04, 0.9, 0.5)])[: random.below(4)]
    canvas.paint(random, *_bevelled(np.concatenate((posts, beams)), thick / 3, palette[2], random.chance(0.5)), view)


def _sign(canvas: _Canvas, random: SeededRandom, view: Floats, palette: Floats) -> None:
    """A board with rows of strokes that look like writing."""
    wide, high = random.uniform(0.2, 0.9), random.uniform(0.1, 0.5)
    left, top = random.uniform(0, 1 - wide), random.uniform(0, 1 - high)
    colours = 255 * _rand(random, 2, 3) if random.chance(0.6) else palette[:2]
    canvas.paint(random, *_bevelled(np.array([[left, top, wide, high]]), 2 / _REFERENCE, colours[0], True), view)
    tall = high / ((rows := 1 + random.below(5)) * random.uniform(1.4, 2))
    columns = max(2, min(24, int(wide * 0.9 / (0.8 * tall))))
    row, column = (a.ravel() for a in np.mgrid[0:rows, 0:columns])
    cells = np.stack((left + wide * (0.05 + 0.9 * column / columns), top + high * (row + 0.25) / rows), axis=1)
    cells = cells[_rand(random, len(cells)) < 0.85]
    # Left, top, width, height of the strokes of a letter, in parts of its height.
    strokes = [(0, 0, 0.1, 1), (0.4, 0, 0.1, 1), (0, 0, 0.5, 0.12), (0, 0.45, 0.5, 0.12), (0, 0.88, 0.5, 0.12)]
    letters = np.array([*strokes, (0.2, 0, 0.12, 1)])[_below(random, 3 * len(cells), 6)] * tall
    letters[:, :2] += cells.repeat(3, axis=0)
    canvas.paint(random, _boxes(letters), colours[1:].repeat(len(letters), axis=0), view)


def _paint_landscape(canvas: _Canvas, random: SeededRandom, view: Floats, fraction: float) -> None:
    horizon = random.uniform(0.3, 0.75)
    steps, sky = 16, _palette(random, 2, random.uniform(0.5, 0.68)) * 0.5 + 120
    bands = np.array([[-0.1, horizon * i / steps, 1.2, 1 / steps] for i in range(steps)])
    canvas.paint(random, _boxes(bands), sky[0] + np.linspace(0, 1, steps)[:, None] * (sky[1] - sky[0]), view)
    far = random.uniform(0.35, 0.8)  # what stands at the horizon, smaller, side by side
    behind: tuple[Painter, ...] = (_paint_shapes, _paint_foliage, _paint_building)
    if random.chance(0.8):
        for left in np.arange(-0.1, 1, far) if random.chance(0.4) else [random.uniform(-0.3, 0.6)]:
            scaled = np.array([[far, 0, left], [0, far, horizon - far * random.uniform(0.7, 1)], [0, 0, 1]])
            behind[random.below(3)](canvas, random, scaled, 0.4 * fraction)
    soil = _palette(random, 1)
    canvas.paint(random, _boxes(np.array([[-0.1, horizon, 1.2, 1.2]])), soil, view)
    deep = random.uniform(0.5, 4)
    lie = (1 - horizon) * (1 + deep)
    flat = np.array([[1 + deep, -deep / 2, 0], [0, lie - deep, 1 + deep - lie], [0, -deep, 1 + deep]])
    if random.chance(0.5):
        behind[random.below(2)](canvas, random, flat, 0.4 * fraction)
    else:
        _bricks(canvas, random, flat, np.concatenate((soil, soil * random.uniform(0.4, 1.4))))
    _paint_objects(canvas, random, view)


def _paint_objects(canvas: _Canvas, random: SeededRandom, view: Floats) -> None:
    """Upright boxes and blobs that stand on the ground: cars, bins, trunks, passers-by."""
    count = random.below(9)
    foot = np.sort(0.5 + 0.6 * _rand(random, count))
    high = (0.1 + 0.5 * _rand(random, count)) * foot
    wide = high * (0.2 + 0.9 * _rand(random, count) ** 2)
    middle = np.stack((_rand(random, count), foot - high / 2), axis=1)
    points = _outlines(random, _below(random, count, 4)) * np.stack((wide, high), axis=1)[:, None] / 2
    colours = _jittered(random, _palette(random, 4)[_below(random, count, 4)], 30)
    canvas.paint(random, points + middle[:, None], colours, view)
    upper = points * [0.6, 0.3] + (middle - np.outer(high, [0, 0.3]))[:, None]
    canvas.paint(random, upper, colours[::-1], view)


def _palette(random: SeededRandom, count: int, hue: float | None = None) -> Floats:
    """Colours [count, 3] of 0 to 255 of one tone: hues near each other, at times an odd one out."""
    if hue is None:  # wood, stone, earth and leaves more often than not
        hue = random.uniform(0.02, 0.2) if random.chance(0.5) else random.uniform(0, 1)
    spread, pale, light = random.uniform(0.01, 0.12), log_uniform(random, 0.06, 0.7), random.uniform(0.3, 0.75)
    colours = []
    for at in range(count):
        tone = (random.uniform(0, 1) if at and random.chance(0.15) else hue) + random.uniform(-spread, spread)
        value = min(1.0, max(0.05, light + random.uniform(-0.35, 0.35)))
        colours.append(colorsys.hsv_to_rgb(tone % 1, pale * random.uniform(0.5, 1.2), value))
    return 255 * np.array(colours).clip(0, 1)


def _jittered(random: SeededRandom, colours: Floats, sigma: float) -> Floats:
    """Colours [n, 3], each a little brighter or darker, and a little less of another hue."""
    return colours + sigma * (random.normal(len(colours), 1) + 0.4 * random.normal(len(colours), 3)).numpy()


def _placed(outlines: Floats, radius: Floats, turn: Floats, centre: Floats) -> Floats:
    """Outlines [n or 1, k, 2] scaled, turned and shifted: [n, k, 2]."""
    cos, sin = (np.cos(turn) * radius)[:, None], (np.sin(turn) * radius)[:, None]
    x, y = outlines[..., 0], outlines[..., 1]
    return np.stack((x * cos - y * sin, x * sin + y * cos), axis=2) + centre[:, None]


def _grid_of_boxes(random: SeededRandom, rows: int, columns: int, filled: float) -> Floats:
    """Boxes [n, 4] side by side: left, top, width, height."""
    row, column = (a.ravel() for a in np.mgrid[-1 : rows + 1, -1 : columns + 1])
    wide, high = 1 / columns, 1 / rows
    left, top = (column + random.uniform(0, 1)) * wide, (row + random.uniform(0, 1)) * high
    return np.stack((left, top, 0 * left + filled * wide, 0 * left + random.uniform(0.5, 0.95) * high), axis=1)


def _boxes(boxes: Floats) -> Floats:
    """Corners [n, 4, 2] of boxes [n, 4]."""
    left, top, width, height = boxes.T
    x, y = np.stack((left, left + width, left + width, left)), np.stack((top, top, top + height, top + height))
    return np.stack((x.T, y.T), axis=2)


def _bevelled(boxes: Floats, depth: float, colour: Floats, raised: bool) -> tuple[Floats, Floats]:
    """Polygons [5n, 4, 2] and colours [5n, 3] of boxes with two bright and two dark edges."""
    outer, inner = _boxes(boxes), _boxes(boxes + np.array([1, 1, -2, -2]) * depth)
    sides = [np.stack((outer[:, i], outer[:, i - 3], inner[:, i - 3], inner[:, i]), axis=1) for i in range(4)]
    points = np.stack((*sides, inner), axis=1).reshape(-1, 4, 2)
    bright, dark = (1.35, 0.5) if raised else (0.5, 1.35)
    shades = np.array([bright, 0.8 * dark, dark, 0.9 * bright, 1.0])
    return points, np.tile(shades[:, None] * colour, (len(boxes), 1))


def _view(random: SeededRandom, tilt: float) -> Floats:
    """A perspective [3, 3] about the middle of the unit square, its lines meeting more for more tilt."""
    turn, scale = random.uniform(-0.25, 0.25) * random.chance(0.5), log_uniform(random, 1.0, 1.5)
    cos, sin = scale * math.cos(turn), scale * math.sin(turn)
    away, down = random.uniform(-tilt, tilt), 0.5 * random.uniform(-tilt, tilt)
    turned = np.array([[cos, -sin, 0], [sin, cos, 0], [away, down, 1]])
    middle = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.asarray(middle @ turned @ np.linalg.inv(middle))


def smooth_noise(random: SeededRandom, size: int, cells: int = 4) -> Tensor:
    """Noise [1, 1, S, S] of so many cells a side."""
    return F.interpolate(random.normal(1, 1, cells, cells), size=(size, size), mode="bicubic", align_corners=False)


def _rand(random: SeededRandom, *shape: int) -> Floats:
    """Numbers in [0, 1), of a shape."""
    return np.asarray(torch.rand(shape, generator=random.rng, dtype=torch.float64))


def _below(random: SeededRandom, count: int, top: int) -> NDArray[np.int64]:
    """Whole numbers [count] from 0 to top - 1."""
    return np.asarray(torch.randint(top, (count,), generator=random.rng))


def log_uniform(random: SeededRandom, low: float, high: float) -> float:
    """A number between two, small ones as often as large ones."""
    return low * math.exp(math.log(high / low) * random.uniform(0, 1))
