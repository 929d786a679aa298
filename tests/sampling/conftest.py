"""Generators of two families."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.tiny import tiny_stylegan2

if TYPE_CHECKING:
    from labels4free.generators.base import Generator


@pytest.fixture(params=["mobile_stylegan", "conditional"])
def any_generator(request: pytest.FixtureRequest, tiny_generator: Generator) -> Generator:
    return tiny_generator if request.param == "mobile_stylegan" else tiny_stylegan2(c_dim=3)
