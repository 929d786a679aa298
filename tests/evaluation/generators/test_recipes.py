from __future__ import annotations

import pytest

from labels4free.errors import ConfigError
from labels4free.evaluation.generators.recipes import PUBLISHED, PathRecipe, parse_recipe


@pytest.mark.parametrize(
    ("name", "kind", "generated", "real"),
    [
        ("fid50k_full", "fid", 50_000, 10**9),
        ("fid50k", "fid", 50_000, 50_000),
        ("fid5k", "fid", 5_000, 5_000),
        ("fid5k_full", "fid", 5_000, 10**9),
        ("kid50k_full", "kid", 50_000, 1_000_000),
        ("kid500", "kid", 500, 500),
        ("pr50k3_full", "pr", 50_000, 200_000),
        ("pr50k3", "pr", 50_000, 50_000),
        ("pr2003", "pr", 200, 200),
        ("pr33", "pr", 3, 3),
        ("is50k", "is", 50_000, 0),
    ],
)
def test_counts(name, kind, generated, real):
    recipe = parse_recipe(name)
    assert (recipe.name, recipe.kind, recipe.generated, recipe.path) == (name, kind, generated, None)
    assert min(recipe.real, 10**9) == real


@pytest.mark.parametrize(
    ("name", "pairs", "path"),
    [
        ("ppl2_wend", 50_000, PathRecipe("w", "end", crop=False)),
        ("ppl_zfull", 50_000, PathRecipe("z", "full", crop=True)),
        ("ppl_wend", 50_000, PathRecipe("w", "end", crop=True)),
        ("ppl2_zend_5k", 5_000, PathRecipe("z", "end", crop=False)),
        ("ppl_wfull_12", 12, PathRecipe("w", "full", crop=True)),
    ],
)
def test_paths(name, pairs, path):
    recipe = parse_recipe(name)
    assert (recipe.kind, recipe.generated, recipe.real, recipe.path) == ("ppl", pairs, 0, path)


def test_the_published_names_are_known():
    assert [parse_recipe(name).name for name in PUBLISHED] == list(PUBLISHED)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "fid",
        "FID50k",
        "fid0",
        "fid50kk",
        "fid50k_ful",
        "pr50k",
        "pr3",
        "is50k_full",
        "ppl_xend",
        "ppl2_wend_",
        "k5",
    ],
)
def test_unknown_names(name):
    with pytest.raises(ConfigError, match=r"Unknown metric .*; the metrics are fid50k_full, kid50k_full"):
        parse_recipe(name)
