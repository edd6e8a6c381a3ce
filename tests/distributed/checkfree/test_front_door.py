import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pipelines import TEXT

from whp.certificate import Verdict
from whp.distributed import Simulator, UnrecoverableStageError, checkfree
from whp.distributed._checkfree import pipeline
from whp.distributed._checkfree.front_door import recovery_table
from whp.distributed._checkfree.recovery import Recovery

SMALL = {
    "dim": 8,
    "heads": 2,
    "context": 6,
    "batch": 4,
    "stages": 4,
    "steps": 6,
    "evaluate_every": 3,
    "probes": 8,
    "rng": 0,
}


def test_checkfree_on_a_text(tmp_path):
    from matplotlib.figure import Figure
    from safetensors.torch import load_file

    found = checkfree(TEXT, **SMALL, fail="2@3, 0@4")
    assert [c.name for c in found.certificates] == [
        "recovered-weights",
        "ends-restored",
        "others-untouched",
        "each-iteration-once",
        "jumps-below-progress",
    ]
    assert [c.verdict for c in found.certificates[:4]] == [Verdict.HOLDS] * 4
    assert found.losses.shape == (6,)
    assert list(found.recoveries["step"]) == [3, 4]
    assert list(found.recoveries["stages"]) == ["2", "0"]
    assert np.isfinite(found.recoveries["jump"]).all()
    assert found.summary()["stages_killed"] == 2
    axes = Figure().subplots(1, 2)
    found.plot(axes[0])
    found.plot_timeline(axes[1])
    saved = found.artifacts()
    saved["model.safetensors"](tmp_path / "model.safetensors")
    assert set(load_file(tmp_path / "model.safetensors")) == set(found.weights)


@pytest.fixture
def quick(monkeypatch):
    """The simulator in the place of processes."""

    class Quick(Simulator):
        def __init__(self, *model, spares=1, timeout=10.0, **training):
            super().__init__(*model, **training)
            self.events_ = []

    monkeypatch.setattr(pipeline, "PipelineTrainer", Quick)


def test_runs_that_go_back_say_so(quick):
    back = checkfree(TEXT, **SMALL, fail="2@3,3@3", checkpoint_every=2)
    assert [c.verdict for c in back.certificates[:4]] == [Verdict.VOID] * 4
    with pytest.raises(UnrecoverableStageError):
        checkfree(TEXT, **SMALL, fail="2@3,3@3", fallback="raise")
    with pytest.raises(UnrecoverableStageError, match="first stage"):
        checkfree(TEXT, **SMALL, fail="0@3", fallback="raise", mode="checkfree")
    assert checkfree(TEXT, **SMALL, mode="none").certificates[0].verdict == Verdict.UNMEASURED
    one, two = (checkfree(TEXT, **SMALL, fail_rate=0.2) for _ in range(2))
    np.testing.assert_array_equal(one.losses, two.losses)
    assert len(one.recoveries) > 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text": 3}, "text"),
        ({"probes": 0}, "probes"),
        ({"share": 1.5}, "share"),
        ({"delta": 0}, "delta"),
        ({"timeout": 0}, "timeout"),
        ({"text": "too short"}, "text"),
        ({"stages": 3}, "stages"),
        ({"dim": 9}, "dim"),
        ({"heads": 0}, "heads"),
        ({"context": 0}, "context"),
        ({"batch": 1}, "microbatches"),
        ({"steps": 0}, "steps"),
        ({"fail_rate": 2}, "fail_rate"),
        ({"fail": "9@1"}, "fail"),
        ({"fail": 3}, "fail"),
        ({"mode": "best"}, "mode"),
        ({"rule": "best"}, "rule"),
        ({"test": 0}, "test"),
        ({"evaluate_every": 0}, "evaluate_every"),
        ({"lr": -1}, "lr"),
        ({"spares": -1}, "spares"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
    ],
)
def test_bad_input_is_named_before_anything_is_started(change, named, monkeypatch):
    monkeypatch.setattr(pipeline.Crew, "start", lambda *_, **__: pytest.fail("started"))
    with pytest.raises((ValueError, TypeError), match=named):
        checkfree(**({"text": TEXT} | SMALL | change))


@settings(max_examples=80, deadline=None)
@given(
    st.text(max_size=60),
    st.integers(-1, 8),
    st.integers(-1, 5),
    st.one_of(st.none(), st.text("0123456789@, ", max_size=8)),
    st.one_of(st.floats(-1, 2), st.just(math.nan)),
    st.sampled_from(["checkfree", "checkfree+", "checkpoint", "redundant", "none"]),
)
def test_anything_is_trained_or_refused_by_name(text, stages, batch_size, fail, rate, mode):
    class Quick(Simulator):
        def __init__(self, *model, spares=1, timeout=10.0, **training):
            super().__init__(*model, **training)
            self.events_ = []

    given_ = SMALL | {
        "stages": stages,
        "batch": batch_size,
        "context": 2,
        "steps": 2,
        "fail": fail,
        "fail_rate": rate,
    }
    kept, told = pipeline.PipelineTrainer, ""
    pipeline.PipelineTrainer = Quick
    try:
        checkfree(text, **given_, mode=mode)
    except (ValueError, TypeError, UnrecoverableStageError) as error:
        told = str(error)
    finally:
        pipeline.PipelineTrainer = kept
    assert not told or told.startswith(
        (
            "text ",
            "stages ",
            "batch ",
            "microbatches ",
            "fail ",
            "fail_rate ",
            "mode ",
            "stage",
            "the ",
        )
    )


def test_a_recovery_that_nobody_asked_for_has_no_jump():
    made = [Recovery(3, (1,), "rebuilt", 3), Recovery(5, (2,), "rebuilt", 5)]
    table = recovery_table(made, {1: 0.25}, [3, 5])
    assert math.isnan(table["jump"][0])
    assert table["jump"][1] == 0.25


def test_a_text_of_one_letter_has_nothing_to_gain(quick):
    made = checkfree("a" * 500, **SMALL, fail="2@3")
    assert made.heldout[-1] == 0
    assert made.certificates[-1].verdict is Verdict.VACUOUS
    assert made.certificates[-1].passes("holds") is False


def test_an_ordinary_run_holds(quick):
    given_ = SMALL | {"steps": 150, "batch": 8, "probes": 256, "lr": 1e-2, "evaluate_every": 50}
    made = checkfree(TEXT, **given_, fail="2@100,0@120")
    assert [str(c.verdict) for c in made.certificates] == ["holds"] * 5
    assert made.certificates[-1].headline == "holds"
    assert made.summary()["heldout_loss_last"] < made.summary()["heldout_loss_first"] - 0.5
