import json
import math
import pickle

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whp.certificate import Answer, Certificate, Scope, Status, Verdict, schema, worst
from whp.intervals import Estimate, exact
from whp.undeclared import met, unchecked, violated


def make(**changes):
    base = {
        "name": "c",
        "claim": "error <= bound",
        "source": "Theorem 1",
        "relation": "<=",
        "bound": 1.0,
        "confidence": 0.95,
        "measured": exact(0.5),
        "trivial": 2.0,
        "conditions": (met("rank", "d = 3"), unchecked("i.i.d.", "one sample")),
        "inputs": {"n": 3, "delta": 0.05, "exact": False, "sketch": "srht"},
    }
    return Certificate(**(base | changes))


# relation, bound, measured, trivial, assumption -> verdict
TABLE = [
    ("<=", 1.0, exact(0.5), 2.0, None, "holds"),
    ("<=", 1.0, exact(1.0), 2.0, None, "holds"),
    ("<=", 1.0, Estimate(0.9, 0.5, 1.5), 2.0, None, "inconclusive"),
    ("<=", 1.0, Estimate(1.2, 1.1, 1.5), 2.0, None, "fails"),
    ("<=", 2.0, exact(0.5), 2.0, None, "vacuous"),
    ("<=", 3.0, None, 2.0, None, "vacuous"),
    ("<=", math.inf, exact(0.5), None, None, "vacuous"),
    ("<=", 1.0, None, 2.0, None, "unmeasured"),
    ("<=", 1.0, exact(9.0), 2.0, "v", "void"),
    ("<=", 3.0, exact(9.0), 2.0, None, "fails"),
    (">=", 1.0, exact(1.5), 0.0, None, "holds"),
    (">=", 1.0, exact(0.5), 0.0, None, "fails"),
    (">=", 0.0, exact(0.5), 0.0, None, "vacuous"),
    (">=", -math.inf, exact(0.5), None, None, "vacuous"),
    (">=", 1.0, Estimate(1.5, 0.5, 2.0), 0.0, None, "inconclusive"),
    (">=", 1.0, None, 0.0, None, "unmeasured"),
]


@pytest.mark.parametrize(("relation", "bound", "measured", "trivial", "broken", "verdict"), TABLE)
def test_verdict_table(relation, bound, measured, trivial, broken, verdict):
    conditions = (violated("rank", "2 < 3", "drop a column"),) if broken else ()
    c = make(
        relation=relation, bound=bound, measured=measured, trivial=trivial, conditions=conditions
    )
    assert c.verdict == verdict
    assert Certificate.from_json(c.to_json()) == c
    jsonschema.validate(c.to_dict(), schema())


finite = st.floats(-1e6, 1e6)
estimates = st.tuples(finite, finite, finite).map(sorted).map(lambda t: Estimate(t[1], t[0], t[2]))
certificates = st.builds(
    Certificate,
    name=st.text(max_size=8),
    claim=st.text(max_size=20),
    source=st.text(max_size=8),
    relation=st.sampled_from(["<=", ">="]),
    bound=finite | st.sampled_from([math.inf, -math.inf]),
    confidence=st.floats(0.01, 1),
    measured=st.none() | estimates,
    trivial=st.none() | finite,
    conditions=st.lists(
        st.builds(
            Answer,
            st.text(max_size=9),
            st.sampled_from(Status),
            st.text(max_size=9),
            st.text(max_size=9),
        ),
        max_size=3,
    ).map(tuple),
    inputs=st.dictionaries(
        st.text(max_size=5),
        finite | st.integers(-9, 9) | st.booleans() | st.just("word"),
        max_size=3,
    ),
)


@given(certificates)
def test_round_trip_schema_and_renderings(c):
    data = json.loads(c.to_json())
    jsonschema.validate(data, schema())
    back = Certificate.from_dict(data)
    assert back == c
    assert back.verdict == c.verdict
    assert (
        pickle.loads(pickle.dumps(c)) == c
    )  # its own bytes: a study's processes exchange certificates so
    assert str(c.verdict) in c.explain()
    assert "<script" not in c._repr_html_()


@given(certificates)
def test_negating_both_sides_keeps_the_verdict(c):
    m = c.measured
    mirrored = Certificate(
        c.name,
        c.claim,
        c.source,
        ">=" if c.relation == "<=" else "<=",
        -c.bound,
        c.confidence,
        None if m is None else Estimate(-m.value, -m.high, -m.low),
        None if c.trivial is None else -c.trivial,
        c.conditions,
    )
    assert mirrored.verdict is c.verdict


def test_a_stored_verdict_is_not_believed():
    data = make(measured=exact(5.0)).to_dict() | {"verdict": "holds"}
    assert Certificate.from_dict(data).verdict is Verdict.FAILS


@pytest.mark.parametrize(
    "change",
    [
        {"bound": "1.0x"},
        {"relation": "<"},
        {"conditions": [{"statement": "s", "status": "maybe"}]},
        {"measured": {"value": 1}},
        {"inputs": [1]},
        {"extra": 1},
        {"measured": 3},
    ],
)
def test_broken_json_is_one_clear_error(change):
    with pytest.raises(ValueError, match=r"."):
        Certificate.from_dict(make().to_dict() | change)
    with pytest.raises(ValueError, match="must be a JSON object"):
        Certificate.from_json("[1]")


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"bound": math.nan}, "bound"),
        ({"trivial": math.nan}, "trivial"),
        ({"confidence": 0.0}, "confidence"),
        ({"confidence": 1.5}, "confidence"),
        ({"relation": "=="}, "relation"),
    ],
)
def test_nonsense_is_refused(change, name):
    with pytest.raises((ValueError, TypeError), match=name):
        make(**change)


def test_explain_says_what_was_promised_assumed_measured_and_what_to_do():
    text = make(
        assumptions=(
            violated("A has full rank", "rank 2 of 3", "drop column x"),
            met("n > d", "9 > 3"),
        )
    ).explain()
    for part in (
        "error <= bound",
        "Theorem 1",
        "0.95",
        "Violated: A has full rank (rank 2 of 3)",
        "Checked: n > d",
        "Measured: 0.5",
        "Verdict: void",
        "drop column x",
    ):
        assert part in text
    assert "take more rows" in make(bound=5.0, remedy="take more rows").explain()
    assert "pass x_exact" in make(measured=None, needs="pass x_exact").explain()


def test_tightness():
    assert make().tightness == 0.5
    assert make(bound=0.0, measured=exact(0.0)).tightness is None
    assert make(measured=None).tightness is None


def test_rich_and_html_show_user_text_as_text():
    from rich.console import Console

    c = make(claim="<script>alert(1)</script> [bold]x[/]")
    with Console(record=True, width=100, file=open("/dev/null", "w")) as console:
        console.print(c)
    shown = console.export_text()
    assert "<script>alert(1)</script> [bold]x[/]" in shown
    assert "holds" in shown
    assert "&lt;script&gt;" in c._repr_html_()
