from __future__ import annotations

import pytest
import torch
from tests.evaluation.generators.small_nets import SmallNet
from tests.tiny import tiny_stylegan2

from labels4free.evaluation.generators.path_length import PathPairs, measure_path_length
from labels4free.evaluation.generators.recipes import PathRecipe
from labels4free.generators.base import sample_z
from labels4free.metrics.perceptual import great_circle

END = PathRecipe("w", "end", crop=False)


def pairs(generator, path=END, count=5, **options):
    return PathPairs(generator, SmallNet(), path, count, seed=3, **options)


def test_the_ends_of_a_path_in_w(generator):
    first, second = pairs(generator, epsilon=0.01).ends(range(2)).chunk(2)
    w = generator.map(torch.stack([sample_z(8, 3, k) for k in range(2)]))
    torch.testing.assert_close(first, w)
    whole = pairs(generator, epsilon=1.0).ends(range(2))[2:]
    torch.testing.assert_close(second, torch.lerp(first, whole, 0.01))
    assert (whole - first).abs().max() > 0.1


def test_the_ends_of_a_path_in_z(generator):
    first, second = pairs(generator, PathRecipe("z", "end", crop=False), epsilon=0.25).ends(range(1))
    z0 = sample_z(8, 3, 0)[None]
    torch.testing.assert_close(first[None], generator.map(z0))  # only its direction matters
    half = pairs(generator, PathRecipe("z", "end", crop=False), epsilon=0.5).ends(range(1))[1:]
    assert not torch.allclose(half, second[None])
    unit = great_circle(z0, torch.ones(1, 8), torch.zeros(1))
    torch.testing.assert_close(generator.map(unit), generator.map(z0))


def test_full_sampling_lies_anywhere(generator):
    full = PathRecipe("w", "full", crop=False)
    whole = pairs(generator, full, epsilon=0.0).ends(range(5))
    start = pairs(generator, epsilon=0.0).ends(range(5))
    end = pairs(generator, epsilon=1.0).ends(range(5))[5:]
    t = (whole[:5] - start[:5]).norm(dim=(1, 2)) / (end - start[:5]).norm(dim=(1, 2))
    assert bool(((t > 0) & (t < 1)).all())
    assert t.max() - t.min() > 0.2


def test_pair_i_depends_on_seed_and_i_alone(generator):
    one = torch.cat([pairs(generator, batch_size=2)(k) for k in range(3)])
    assert len(one) == 5
    torch.testing.assert_close(pairs(generator, batch_size=5)(0), one, rtol=1e-5, atol=0)
    assert torch.equal(pairs(generator, count=3, batch_size=3)(0)[2], pairs(generator, batch_size=3)(0)[2])


def test_noise_is_the_same_within_a_pair(generator):
    assert pairs(generator, epsilon=0.0, batch_size=5)(0).max() == 0


def test_a_path_length_does_not_depend_on_its_step(generator):
    """For a step small enough, distance / step^2 is the squared speed."""
    lengths = [measure_path_length(pairs(generator, epsilon=step, count=8)) for step in (1e-2, 3e-3)]
    assert lengths[0] > 0
    assert lengths[1] == pytest.approx(lengths[0], rel=0.1)


def test_crop_and_truncation_reach_the_pictures(generator):
    plain = measure_path_length(pairs(generator, epsilon=1e-2))
    assert measure_path_length(pairs(generator, PathRecipe("w", "end", crop=True), epsilon=1e-2)) != plain
    assert measure_path_length(pairs(generator, epsilon=1e-2, truncation_psi=0.1)) < plain


def test_classes(tmp_path):
    generator = tiny_stylegan2(c_dim=3)
    ws = pairs(generator, epsilon=0.0).ends(range(4))
    torch.testing.assert_close(ws[:4], ws[4:])


@pytest.mark.slow
def test_several_processes(generator):
    done = []
    one = measure_path_length(pairs(generator, epsilon=1e-2), progress=done.append)
    assert sum(done) == 5
    assert measure_path_length(pairs(generator, epsilon=1e-2), workers=2) == pytest.approx(one, rel=1e-5)
