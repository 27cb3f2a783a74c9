"""Tables of displacements have odd sides, both of them."""

from __future__ import annotations

import numpy as np
import pytest

from msda_theory.moments.stationary import Stationary


@pytest.mark.parametrize("sides", [(3, 4), (4, 3), (4, 4)], ids=str)
def test_a_table_with_an_even_side_is_refused(sides):
    with pytest.raises(
        ValueError, match=r"expected one value for each displacement \[2H-1, 2W-1\], got a table of shape"
    ):
        Stationary(np.ones(sides))


def test_a_table_of_odd_sides_has_its_image():
    assert Stationary(np.ones((3, 7))).shape == (2, 4)
