"""Every derivation of seeds keeps its values: old seeds give old images, and a resumed run is the uninterrupted one."""

from __future__ import annotations

import pytest
import torch

from labels4free import seeds
from labels4free.seeds import SeededRandom, derive_seed, generator_for, series
from labels4free.training.alpha.config import TrainConfig

DERIVED = {
    (): 0,
    (0,): 0,
    (5,): 831670938351154249,
    (3, 0, -1): 4440980707109646450,  # first weights of an attempt
    (3, 1, 7): 7642091971357287342,  # a step of the default recipe
    (3, 0, 1 << 40): 4694515766901237626,  # its check
    (3, 0x3E3B, 2): 4266418790362429310,  # the run of a member
    (3, 0xD157, 4): 6036125085162490812,  # a step towards the members' consensus
    (3, 0, 7, 1, 2): 2708654206988046041,  # a micro-batch of the paper's recipe
    (3, 0x5A0E): 8781591711561486807,  # what that recipe shows and checks on
    (3, seeds.OTHER_NOISE, 6): 5248026655062822973,  # a sample rendered again
    (3, 4, 0): 1351449647393495091,  # the order of real images in an epoch
    (3, 5, 1): 8897090004717517740,  # whether one is mirrored; a stream of an example's augmentation
    (3, 9, 0x9407): 5315171542941878133,  # whether an example is a photo
    (3, 0xC4EC): 6324102232556062311,  # the examples of a segmenter's check
    (3, 0xC4EC, 5): 1908341967989876496,  # and their light
}


@pytest.mark.parametrize("numbers", DERIVED)
def test_derived_seeds(numbers):
    assert derive_seed(*numbers) == DERIVED[numbers] == generator_for(*numbers).initial_seed()


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (seeds.hashed_seed(0, 5, "noise", 0), 7724920652458203526),
        (seeds.hashed_seed(0, 5, "mixing", 1), 7080132688531194289),
        (seeds.sample_seed(0, 1), 5887693669981678851),
        (seeds.sample_seed(3, 5), 8300380586749334862),
        (seeds.sample_seed(2**40, 2**31), 3694512457641885696),
        (seeds.sample_seed(series(0, seeds.CLASSES), 1), 8998658150891769071),
        (seeds.noise_seed(0), 474315584357),
        (seeds.noise_seed(5), 1663342349802921934),
        (series(3, seeds.CLASSES), 24383),
        (series(3, seeds.MIXED_STYLES), 12742),
        (series(3, seeds.OTHER_STYLES), 201670),
        (series(3, seeds.CALIBRATION), 24302),
        (seeds.draw(3, 7, "mixing"), 0.9119272635950452),
        (seeds.draw(3, 7, "crossover"), 0.3466066985165127),
        (seeds.draw(3, 7, "truncation"), 0.06499294063961947),
        (seeds.draw(3, 7, "background"), 0.7307608901446628),
        (TrainConfig(seed=4).of_member(2).seed, 2979960464766737759),
    ],
)
def test_other_derivations(found, expected):
    assert found == expected


def test_draws_depend_on_the_numbers_alone():
    random = [SeededRandom(*numbers).uniform(0, 1) for numbers in ((1, 2), (1, 2), (2, 1), (1, 3))]
    assert random[0] == random[1]
    assert len(set(random)) == 3
    assert torch.equal(SeededRandom(5).normal(2, 3), torch.randn(2, 3, generator=generator_for(5)))


def test_draws_keep_their_values():
    random = SeededRandom(3, 1)
    assert [random.uniform(0, 1), random.below(1000), random.chance(0.5)] == [pytest.approx(0.46355522), 622, False]
    torch.testing.assert_close(random.normal(2), torch.tensor([0.88132614, -1.9661833]))
    torch.testing.assert_close(random.colour().flatten(), torch.tensor([-0.08731115, -0.8511342, -0.36108947]))


def test_ranges():
    random = SeededRandom(0)
    uniform = [random.uniform(-2, 3) for _ in range(500)]
    assert -2 <= min(uniform) < -1.9 < 2.9 < max(uniform) <= 3
    assert {random.below(3) for _ in range(50)} == {0, 1, 2}
    assert sum(random.chance(0.2) for _ in range(2000)) == pytest.approx(400, abs=80)
    assert not any(random.chance(0.0) for _ in range(100))
    assert all(random.chance(1.0) for _ in range(100))
    colours = torch.cat([random.colour() for _ in range(200)])
    assert colours.shape == (200, 3, 1, 1)
    assert -1 <= colours.min() < -0.9 < 0.9 < colours.max() <= 1
