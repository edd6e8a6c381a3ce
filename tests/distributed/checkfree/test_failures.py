import numpy as np
import pytest

from whp.distributed._checkfree.failures import draw_failures, read_failures
from whp.distributed._checkfree.recovery import plan


def test_failures_are_read_and_drawn():
    assert read_failures("2@150, 0@3,1@150", 6, 200) == {3: (0,), 150: (1, 2)}
    assert read_failures("", 6, 200) == {}
    for text in ("2", "2@", "6@1", "1@200", "a@b", "1@2;3@4", "-1@3"):
        with pytest.raises(ValueError, match="fail must"):
            read_failures(text, 6, 200)
    rng = np.random.default_rng(0)
    for mode in ("checkfree", "checkfree+", "redundant"):
        drawn = draw_failures(0.3, 6, 2000, mode, rng)
        for lost in drawn.values():
            plan(lost, 6, "checkfree" if mode == "checkfree" else mode, "grad")
            assert mode == "checkfree+" or not {0, 5} & set(lost)
    rate = (
        sum(len(v) for v in draw_failures(0.01, 6, 20_000, "checkfree", rng).values()) / 20_000 / 4
    )
    assert rate == pytest.approx(0.01, rel=0.15)
