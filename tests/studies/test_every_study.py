import json

import numpy as np
import pytest

from whp.catalogue import CATALOGUE
from whp.experiment.study import load

BUILT = [m.slug for m in CATALOGUE if m.status == "built"]


@pytest.mark.parametrize("scale", ["quick", "standard", "full"])
@pytest.mark.parametrize("slug", BUILT)
def test_trials_are_plain_and_unique(slug, scale):
    configs = list(load(slug).trials(scale))
    assert len({json.dumps(c, sort_keys=True) for c in configs}) == len(configs)
    assert all(isinstance(c["seed"], int) for c in configs)


@pytest.mark.parametrize("slug", BUILT)
def test_an_unknown_experiment_is_refused(slug):
    with pytest.raises(ValueError, match="experiment"):
        load(slug).run({"experiment": "other", "seed": 0}, np.random.default_rng(0))
