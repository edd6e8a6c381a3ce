import json
import math
import pickle

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from whp.certificate import Answer, Certificate, Relation, Scope, Status, Verdict, schema, worst
from whp.intervals import Estimate, exact


def met(statement, evidence=""):
    return Answer(statement, Status.MET, evidence)


def unchecked(statement, evidence=""):
    return Answer(statement, Status.UNCHECKED, evidence)


def violated(statement, evidence="", remedy=""):
    return Answer(statement, Status.VIOLATED, evidence, remedy)


def make(**changes):
    base = {
        "name": "c",
        "claim": "error <= bound",
        "source": "Theorem 1",
        "relation": Relation.AT_MOST,
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
        relation=Relation(relation),
        bound=bound,
        measured=measured,
        trivial=trivial,
        conditions=conditions,
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
    relation=st.sampled_from(Relation),
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
        Relation.AT_LEAST if c.relation is Relation.AT_MOST else Relation.AT_MOST,
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
    ],
)
def test_nonsense_is_refused(change, name):
    with pytest.raises((ValueError, TypeError), match=name):
        make(**change)


def test_explain_says_what_was_promised_assumed_measured_and_what_to_do():
    text = make(
        conditions=(
            violated("A has full rank", "rank 2 of 3", "drop column x"),
            met("n > d", "9 > 3"),
        )
    ).explain()
    for part in (
        "error <= bound",
        "Theorem 1",
        "0.95",
        "Violated: A has full rank (rank 2 of 3)",
        "Met: n > d",
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


def version_1():
    return {
        "name": "old",
        "claim": "c",
        "source": "Theorem 1",
        "relation": "<=",
        "bound": 1.0,
        "confidence": 0.95,
        "measured": None,
        "trivial": None,
        "assumptions": [{"statement": "s", "status": "violated", "evidence": "", "remedy": "mend"}],
        "inputs": {"n": 3},
        "needs": "",
        "remedy": "",
        "verdict": "holds",
        "tightness": None,
    }


def test_certificates_of_version_1_are_still_read():
    c = Certificate.from_dict(version_1())
    assert c.verdict is Verdict.VOID
    assert c.scope is None
    jsonschema.validate(c.to_dict(), schema())
    with pytest.raises(ValueError, match="version 3"):
        Certificate.from_dict(c.to_dict() | {"schema": 3})


def test_holds_says_what_it_rests_on():
    answers = (
        Answer("a", Status.UNCHECKED, "why"),
        Answer("b", Status.UNCHECKED, "why"),
        Answer("c", Status.NOT_REFUTED, "p"),
        Answer("d", Status.BY_CONSTRUCTION, "how"),
    )
    c = make(conditions=answers)
    assert c.headline == "holds, given 2 unchecked, 1 not refuted"
    assert make(conditions=()).headline == "holds"
    assert make(conditions=(), scope=Scope.FITTED).headline == "holds of the fit"
    assert "given" not in make(conditions=answers, measured=None).headline


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        ({}, ("holds", "stands")),
        ({"conditions": ()}, ("holds", "stands", "checked")),
        ({"measured": None}, ("stands",)),
        ({"measured": exact(3.0)}, ()),
        ({"bound": 5.0}, ()),
        ({"conditions": (), "scope": Scope.FITTED}, ()),
    ],
)
def test_what_opens_a_gate(change, passes):
    c = make(**change)
    assert tuple(r for r in ("holds", "stands", "checked") if c.passes(r)) == passes


def test_confidence_is_shared_between_bound_and_measurement():
    c = make(measured=Estimate(0.5, 0.4, 0.6, level=0.99))
    assert c.sure == pytest.approx(0.95 + 0.99 - 1)
    assert "0.94" in c.explain()
    assert make(confidence=0.05, measured=Estimate(0.5, 0.4, 0.6, level=0.5)).sure == 0


def test_the_worst_of_many_stands_for_all():
    many = {
        "a": make(confidence=0.99),
        "b": make(confidence=0.99, measured=None),
        "c": make(confidence=0.99, measured=exact(0.9)),
    }
    chosen = worst(many)
    assert chosen.verdict is Verdict.UNMEASURED
    assert chosen.inputs["which is"] == "b"
    assert chosen.confidence == pytest.approx(0.97)
    assert worst({k: many[k] for k in "ac"}).inputs["which is"] == "c"
    assert worst(many | {"d": make(measured=exact(7.0))}).verdict is Verdict.FAILS
    assert worst({"a": many["a"]}) == many["a"]
    with pytest.raises(ValueError, match="one theorem"):
        worst({"a": make(), "b": make(name="other")})
    with pytest.raises(ValueError, match="one theorem"):
        worst({})
    with pytest.raises(ValueError, match="divide delta"):
        worst({k: make(confidence=0.6) for k in "abc"})


def test_control_characters_of_user_text_are_shown_as_escapes():
    c = make(claim="\x1b]0;pwn\x07 \u202ereversed", inputs={"k": "v"})
    from rich.console import Console

    with Console(record=True, width=100, file=open("/dev/null", "w")) as console:
        console.print(c)
    for text in (console.export_text(), c._repr_html_()):
        assert "\\x1b]0;pwn" in text
        assert not any(bad in text for bad in ("\x1b", "\x07", "\u202e"))
