SMALL = {
    "dim": 8,
    "heads": 2,
    "context": 6,
    "batch": 4,
    "stages": 4,
    "steps": 6,
    "evaluate_every": 3,
    "rng": 0,
}


def test_checkfree_on_a_text(tmp_path):
    from matplotlib.figure import Figure
    from safetensors.torch import load_file

    found = checkfree(TEXT, **SMALL, fail="2@3, 0@4")
    assert [c.name for c in found.certificates] == [
        "recovered-weights",
        "others-untouched",
        "each-iteration-once",
        "jumps-below-progress",
    ]
    assert [c.verdict for c in found.certificates[:3]] == [Verdict.HOLDS] * 3
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
        def __init__(self, *model, spares=1, **training):
            super().__init__(*model, **training)
            self.events_ = []

    monkeypatch.setattr(pipeline, "PipelineTrainer", Quick)


def test_runs_that_go_back_say_so(quick):
    back = checkfree(TEXT, **SMALL, fail="2@3,3@3", checkpoint_every=2)
    assert [c.verdict for c in back.certificates[:3]] == [Verdict.VOID] * 3
    with pytest.raises(UnrecoverableStageError):
        checkfree(TEXT, **SMALL, fail="2@3,3@3", fallback="raise")
    with pytest.raises(UnrecoverableStageError, match="first stage"):
        checkfree(TEXT, **SMALL, fail="0@3", fallback="raise", mode="checkfree")
    assert checkfree(TEXT, **SMALL, mode="none").certificates[0].verdict == Verdict.UNMEASURED
    one, two = (checkfree(TEXT, **SMALL, fail_rate=0.2) for _ in range(2))
    np.testing.assert_array_equal(one.losses, two.losses)
    assert len(one.recoveries) > 0


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


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"text": 3}, "text"),
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
        def __init__(self, *model, spares=1, **training):
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
