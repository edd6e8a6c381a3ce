import json
import shutil
import time

import networkx as nx
import pytest

from whp.catalogue import find
from whp.certificate import Answer, Certificate, Relation, Status
from whp.experiment.findings import Published
from whp.experiment.study import Finding, Outcome
from whp.intervals import Estimate, exact
from whp.report import Card, ledger, page, svg

ATTACK = "<script>alert(1)</script>"
CERTIFICATES = (
    Certificate(
        "bars",
        f"{ATTACK} <= 1",
        "Theorem 1",
        Relation.AT_MOST,
        1.0,
        0.95,
        exact(0.5),
        2.0,
        (Answer(ATTACK, Status.MET, ATTACK),),
    ),
    Certificate(
        "other",
        "x",
        "Theorem 2",
        Relation.AT_MOST,
        1.0,
        0.95,
        exact(0.5),
        2.0,
        (Answer("rank", Status.VIOLATED, "", ATTACK),),
    ),
)
FOUND = Published(
    "linf-regression",
    "standard",
    4,
    0,
    1.0,
    (
        Finding(
            "C1",
            ATTACK,
            "2 | 3",
            "q",
            "<=",
            1.0,
            Estimate(0.5, 0.4, 0.6),
            Outcome.REPRODUCED,
            "a note",
        ),
        Finding(
            "C2", "second", "none", "q", ">=", 1.0, Estimate(0.5, 0.4, 0.6), Outcome.NOT_REPRODUCED
        ),
    ),
    {"bars": {"holds": 3, "fails": 1}},
    {"bars": exact(0.5)},
)


def draw(figure):
    ax = figure.subplots()
    ax.plot([1, 2], [3, 4])
    ax.set_title(ATTACK)


def cards():
    first = Card(
        find("linf-regression"),
        ATTACK,
        "q",
        "1",
        "2",
        "peer",
        ATTACK,
        "x = 1",
        1.0,
        CERTIFICATES,
        svg(draw, salt="a"),
        {"label": ATTACK},
        FOUND,
    )
    return [first, Card(find("h-calibration"), error=ATTACK)]


def test_users_text_is_only_ever_text():
    text = page(cards())
    assert ATTACK not in text
    assert text.count("<script>") == 1


def test_ledger_is_markdown_with_every_verdict():
    text = ledger({"linf-regression": FOUND})
    assert "✗ not reproduced" in text
    assert "1 not reproduced, 1 reproduced" in text


def test_pictures_of_one_page_share_no_identifiers():
    import re

    first, second = (set(re.findall(r'id="([^"]+)"', svg(draw, salt=s))) for s in "ab")
    assert first
    assert not first & second


@pytest.fixture(scope="module")
def browser():
    webdriver = pytest.importorskip("selenium.webdriver")
    if not shutil.which("chromium") or not shutil.which("chromedriver"):
        pytest.skip(
            "needs chromium and chromedriver (Debian: apt-get install chromium chromium-driver)"
        )
    options = webdriver.ChromeOptions()
    for flag in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        "--disable-quic",
    ):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    yield driver
    driver.quit()


def test_the_page_in_a_browser(browser, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page(cards()))
    browser.get(path.as_uri())
    assert browser.get_log("browser") == []
    events = [json.loads(e["message"])["message"] for e in browser.get_log("performance")]
    requests = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert [u for u in requests if not u.startswith(("file:", "data:"))] == []
    assert ATTACK in browser.find_element("tag name", "body").text
    assert ATTACK in browser.find_element("tag name", "svg").get_attribute("textContent")

    button = browser.find_element("css selector", '[data-filter="void"]')
    button.send_keys(" ")  # the keyboard works the filter
    shown = [
        a.get_attribute("id")
        for a in browser.find_elements("css selector", "article")
        if a.is_displayed()
    ]
    assert shown == ["linf-regression"]
    button.click()
    assert (
        len([a for a in browser.find_elements("css selector", "article") if a.is_displayed()]) == 2
    )


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_overflows_sideways(browser, tmp_path, width):
    path = tmp_path / "page.html"
    path.write_text(page(cards()))
    browser.set_window_size(width + 20, 900)
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    browser.get(path.as_uri())
    time.sleep(0.1)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_a_hostile_node_name_from_a_file_shows_as_text(browser, tmp_path, capsys):
    from whp.cli import main

    graph = nx.planted_partition_graph(2, 30, 0.5, 0.02, seed=0)
    nx.relabel_nodes(graph, {0: ATTACK}, copy=False)
    nx.write_gml(graph, tmp_path / "g.gml", stringizer=str)
    with pytest.raises(SystemExit) as stop:
        main(
            [
                "run",
                "hierarchical-communities",
                str(tmp_path / "g.gml"),
                "--out",
                str(tmp_path / "o"),
                "--seed",
                "1",
            ]
        )
    assert stop.value.code == 0
    assert "labels.csv" in capsys.readouterr().out
    browser.get((tmp_path / "o" / "report.html").as_uri())
    assert browser.get_log("browser") == []


def test_ticks_of_a_short_logarithmic_axis_are_numbers():
    def draw(figure):
        figure.subplots().set(xscale="log", yscale="log", xlim=(400, 9000), ylim=(1e-6, 1e6))

    text = svg(draw, salt="a")
    assert ">1,000</text>" in text
    assert ">5,000</text>" in text
    assert "mathdefault" in text  # powers of ten where the axis is long
