import numpy as np
import pytest

from whp.experiment.claims import Claim
from whp.experiment.study import Loaded, Study
from whp.intervals import exact


@pytest.fixture
def study():
    study = Study("linf-regression")

    @study.experiment(
        seeds={"quick": 1, "standard": 3},
        threads=2,
        variant=("a", "b"),
        data="mnist",
        d=range(1, 4),
        quick={"data": "digits", "variant": "a"},
    )
    def runtime_over_n(config, rng):
        return {"x": config["d"], "r": rng.random()}

    @study.experiment(
        seeds=1, grid=lambda scale: [{"n": 8}, {"n": 64}] if scale == "full" else [{"n": 8}], k=2
    )
    def irregular(config, rng):
        return [{"x": 1}, {"x": 2}]

    return study


def test_a_grid_is_the_product_of_its_axes_and_seeds(study):
    configs = [c for c in study.trials("standard") if c["experiment"] == "runtime over n"]
    assert len(configs) == 2 * 3 * 3
    assert configs[0] == {
        "experiment": "runtime over n",
        "variant": "a",
        "data": "mnist",
        "d": 1,
        "seed": 0,
    }
    assert {c["seed"] for c in configs} == {0, 1, 2}


def test_a_scale_replaces_axes_and_may_run_nothing(study):
    quick = [c for c in study.trials("quick") if c["experiment"] == "runtime over n"]
    assert [(c["variant"], c["data"], c["d"]) for c in quick] == [
        ("a", "digits", d) for d in (1, 2, 3)
    ]
    assert {c["experiment"] for c in study.trials("full")} == {"irregular"}


def test_an_irregular_grid_is_a_function_or_a_list(study):
    assert [c["n"] for c in study.trials("full")] == [8, 64]
    assert all(c["k"] == 2 for c in study.trials("full"))
    other = Study("linf-regression")
    grid = {"quick": [{"n": 1}], "full": [{"n": 1}, {"n": 2}]}
    other.experiment(seeds=2, grid=grid)(lambda config, rng: {"x": 0})
    assert [len(other.trials(scale)) for scale in ("quick", "standard", "full")] == [2, 0, 4]


def test_a_function_in_a_function_is_no_task(study):
    with pytest.raises(ValueError, match="'runtime over n' must stand at the top of a module"):
        study.tasks("standard")


def test_run_finds_the_experiment_and_refuses_others(study):
    rng = np.random.default_rng(0)
    assert len(study.run({"experiment": "irregular", "seed": 0}, rng)) == 2
    assert study.run({"experiment": "runtime over n", "d": 3, "seed": 0}, rng)[0]["x"] == 3
    with pytest.raises(ValueError, match="experiment must be one of"):
        study.run({"experiment": "other"}, rng)


def test_names_do_not_repeat(study):
    def irregular(config, rng):
        return {}

    with pytest.raises(ValueError, match="two experiments named 'irregular'"):
        study.experiment(seeds=1)(irregular)
    with pytest.raises(ValueError, match="no scale huge"):
        study.experiment(seeds={"huge": 1})
    claim = Claim("C1", "x", measure=lambda r: exact(1.0), at_most=1.0)
    assert study.claims(claim) == (claim,)
    with pytest.raises(ValueError, match="two claims C1"):
        study.claims(claim)


PACKAGE = {
    "__init__.py": "",
    "experiments.py": """
from whp.experiment.study import Study
study = Study("toy")

def helper():
    return 1

@study.experiment(seeds={"quick": 2, "standard": 3}, d=(1, 2))
def first(config, rng):
    return {"x": helper()}

@study.experiment(seeds=1, threads=2)
def second(config, rng):
    return {"x": 2}
""",
    "claims.py": """
from whp.experiment.claims import Claim
from whp.experiment.measures import mean
CLAIMS = (Claim("C1", "x", measure=mean("x", {"experiment": "first"}), at_most=1.5),)
""",
    "showcase.py": """
def example():
    return {"a": 1}

def showcase():
    return "card"
""",
}


@pytest.fixture
def written(tmp_path, monkeypatch):
    import importlib
    import sys

    monkeypatch.syspath_prepend(str(tmp_path))

    def write(**changes):
        home = tmp_path / "toy_package"
        home.mkdir(exist_ok=True)
        for name, text in PACKAGE.items():
            for old, new in changes.items():
                text = text.replace(old, new)
            (home / name).write_text(text)
        importlib.invalidate_caches()
        for name in [n for n in sys.modules if n.startswith("toy_package")]:
            del sys.modules[name]
        return Loaded("toy_package")

    return write


def test_a_package_and_a_module_offer_the_same(written):
    study = written()
    assert study.is_package
    assert len(study.trials("quick")) == 5
    assert [c.id for c in study.CLAIMS] == ["C1"]
    assert study.FIGURES == {}
    assert study.example() == {"a": 1}
    assert study.showcase() == "card"
    first, *_, last = study.tasks("quick")
    assert first.entry == "toy_package.experiments:first"
    assert (last.entry, last.threads) == ("toy_package.experiments:second", 2)


def test_one_changed_experiment_leaves_the_others_cached(written):
    def sources(**changes):
        tasks = written(**changes).tasks("quick")
        return {t.config["experiment"]: t.source for t in tasks}

    base = sources()
    assert base["first"] != base["second"]
    changed = sources(**{'{"x": 2}': '{"x": 3}'})
    assert changed["first"] == base["first"]
    assert changed["second"] != base["second"]
    helped = sources(**{"return 1": "return 7"})
    assert helped["first"] != base["first"]
    assert helped["second"] == base["second"]
    assert sources(**{"d=(1, 2)": "d=(1, 2, 3)", '"quick": 2': '"quick": 4'}) == base


def test_the_rows_of_a_package_are_cached_by_experiment(written, tmp_path, monkeypatch):
    from whp.experiment.runner import run_study

    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")

    def cached(**changes):
        seen = {}
        records = run_study(
            written(**changes),
            "quick",
            jobs=1,
            cache=tmp_path / "cache",
            on_result=lambda n, t, rows, c: seen.setdefault(rows[0]["experiment"], c),
        )
        assert (records["error"] == "").all()
        return seen

    assert cached() == {"first": False, "second": False}
    assert cached(**{'{"x": 2}': '{"x": 3}'}) == {"first": True, "second": False}
