from __future__ import annotations

import numpy as np
import pytest

from labels4free.metrics.intervals import Interval, bootstrap_intervals

ROWS = np.random.Generator(np.random.PCG64(7)).random((23, 3))


def figures(sums):
    """Two figures that are no sums: fractions."""
    return np.stack([sums[:, 0] / sums[:, 1], sums[:, 2] / sums.sum(axis=1)], axis=1)


def plainly(rows, resamplings, seed):
    """The figures of each resampling, one draw after the other."""
    rng = np.random.Generator(np.random.PCG64(seed))
    found = []
    for _ in range(resamplings):
        drawn = [rows[k] for k in rng.integers(len(rows), size=len(rows))]
        found.append(figures(np.sum(drawn, axis=0)[None])[0])
    return np.array(found)


def test_against_a_plain_loop():
    intervals = bootstrap_intervals(ROWS, figures, 200, seed=3)
    resampled = plainly(ROWS, 200, 3)
    sums = ROWS.sum(axis=0)
    assert len(intervals) == 2
    assert [i.value for i in intervals] == pytest.approx([sums[0] / sums[1], sums[2] / sums.sum()])
    for column, interval in enumerate(intervals):
        ordered = np.sort(resampled[:, column])
        low, high = np.percentile(ordered, [2.5, 97.5])
        assert (interval.low, interval.high) == (pytest.approx(low), pytest.approx(high))
        inside = ((ordered >= interval.low) & (ordered <= interval.high)).mean()
        assert inside == pytest.approx(0.95, abs=0.01)
        assert interval.low < interval.value < interval.high


def test_seeds_decide():
    one = bootstrap_intervals(ROWS, figures, 50, seed=1)
    assert bootstrap_intervals(ROWS, figures, 50, seed=1) == one
    other = bootstrap_intervals(ROWS, figures, 50, seed=2)
    assert [i.value for i in other] == [i.value for i in one]
    assert other != one


def test_it_is_as_wide_as_theory_says():
    """The mean of n draws of deviation s: 1.96 s / sqrt(n) to each side."""
    rows = np.random.Generator(np.random.PCG64(1)).normal(5, 2, (400, 1))
    rows = np.hstack([rows, np.ones((400, 1))])
    (mean,) = bootstrap_intervals(rows, lambda sums: sums[:, :1] / sums[:, 1:], 2000, seed=0)
    reach = 1.96 * rows[:, 0].std() / 20
    assert mean.low == pytest.approx(mean.value - reach, abs=0.1 * reach)
    assert mean.high == pytest.approx(mean.value + reach, abs=0.1 * reach)


def test_rows_that_are_all_the_same_have_no_width():
    for interval in bootstrap_intervals(np.full((9, 3), 0.5), figures, 20, seed=0):
        assert interval.low == pytest.approx(interval.value)
        assert interval.high == pytest.approx(interval.value)


@pytest.mark.parametrize(("count", "resamplings"), [(23, 0), (1, 100)])
def test_where_nothing_can_be_drawn_anew_there_is_no_interval(count, resamplings):
    rows = ROWS[:count]
    values = figures(rows.sum(axis=0, keepdims=True))[0]
    assert bootstrap_intervals(rows, figures, resamplings, seed=0) == [Interval(float(v)) for v in values]
    assert Interval(1.0) == Interval(1.0, None, None)


def test_what_is_asked_for_at_once_is_all_resamplings():
    asked = []
    bootstrap_intervals(ROWS, lambda sums: asked.append(sums.shape) or figures(sums), 30, seed=0)
    assert asked == [(1, 3), (30, 3)]
