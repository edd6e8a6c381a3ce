"""Files out: whole or not at all, whatever happens in between."""

import multiprocessing
import os
import signal
import stat
import time

import numpy as np
import pandas as pd
import pytest

from whp.io import save, write

FORK = multiprocessing.get_context("fork")


def test_save_is_all_or_nothing(tmp_path):
    def fail(path):
        path.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        save(tmp_path / "out", {"a.txt": "x", "b.txt": fail})
    assert list(tmp_path.iterdir()) == []
    files = save(
        tmp_path / "out",
        {
            "a.txt": "x",
            "a.npz": {"v": np.array(["n", 1], dtype=object)},
            "t.csv": pd.DataFrame({"c": [1]}),
        },
    )
    assert sorted(f.name for f in files) == ["a.npz", "a.txt", "t.csv"]
    (tmp_path / "out" / "mine.txt").write_text("kept")
    save(tmp_path / "out", {"a.txt": "y"})
    assert (tmp_path / "out" / "mine.txt").read_text() == "kept"
    assert (tmp_path / "out" / "a.txt").read_text() == "y"
    assert {p.name for p in tmp_path.iterdir()} == {"out"}
    with pytest.raises(ValueError, match="plain file name"):
        save(tmp_path / "out", {"../a.txt": "y"})
    with pytest.raises(ValueError, match="ending"):
        write(tmp_path / "a.xyz", 1)
    with pytest.raises(ValueError, match="this is a file"):
        save(tmp_path / "out" / "a.txt", {"a.txt": "y"})


def test_a_blocked_name_leaves_everything_as_it_was(tmp_path):
    out = tmp_path / "out"
    save(out, {"a.txt": "old", "b.txt": "old"})
    (out / "c.txt").mkdir()
    with pytest.raises(
        ValueError, match=r"c\.txt: a directory or link stands .* nothing was written"
    ):
        save(out, {"a.txt": "new", "b.txt": "new", "c.txt": "new"})
    assert [(out / n).read_text() for n in ("a.txt", "b.txt")] == ["old", "old"]


def test_links_are_refused(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out = tmp_path / "out"
    save(out, {"a.txt": "old"})
    (out / "b.txt").symlink_to(victim)
    with pytest.raises(ValueError, match="nothing was written"):
        save(out, {"a.txt": "new", "b.txt": "new"})
    assert (out / "a.txt").read_text() == "old"
    for target in (out, tmp_path / "nowhere"):
        (tmp_path / "link").symlink_to(target)
        with pytest.raises(ValueError, match="symbolic link"):
            save(tmp_path / "link", {"a.txt": "new"})
        (tmp_path / "link").unlink()
    assert victim.read_text() == "mine"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_the_umask_is_respected(tmp_path, mask):
    before = os.umask(mask)
    try:
        save(tmp_path / "out", {"a.txt": "x", "a.npy": np.ones(2)})
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o777 & ~mask
    for name in ("a.txt", "a.npy"):
        assert stat.S_IMODE((tmp_path / "out" / name).stat().st_mode) == 0o666 & ~mask


def hang(path):
    path.write_text("half")
    time.sleep(60)


def test_what_a_killed_run_left_is_cleaned_away_and_what_is_being_written_is_not(tmp_path):
    out = tmp_path / "out"
    writer = FORK.Process(target=save, args=(out, {"a.txt": hang}))
    writer.start()
    while not (stages := list(tmp_path.glob(".out-whp-*/a.txt"))):
        time.sleep(0.01)
    stage = stages[0].parent
    os.utime(stage, (0, 0))
    save(out, {"b.txt": "x"})
    assert stage.exists(), "somebody is writing there"
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    os.utime(stage, (0, 0))
    save(out, {"b.txt": "y"})
    assert not stage.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def compete(out, word, barrier):
    def slowly(path):
        path.write_text(word)
        barrier.wait()

    save(out, {"a.txt": word, **{f"{i}.txt": word for i in range(20)}, "z.txt": slowly})


@pytest.mark.parametrize("existing", [False, True])
def test_of_two_that_write_at_once_one_stands_whole(tmp_path, existing):
    for turn in range(5):
        out = tmp_path / str(turn)
        if existing:
            save(out, {"a.txt": "old"})
        barrier = FORK.Barrier(2)
        writers = [FORK.Process(target=compete, args=(out, w, barrier)) for w in ("one", "two")]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [w.exitcode for w in writers] == [0, 0]
        assert len({p.read_text() for p in out.iterdir()}) == 1
        assert len(list(out.iterdir())) == 22


def test_spreadsheets_execute_nothing(tmp_path):
    cells = [
        "=cmd|' /C calc'!A0",
        "@SUM(A1)",
        "+1+1",
        "-2+3",
        "\tx",
        "\rx",
        "-12",
        "+3.5",
        "plain",
        None,
    ]
    table = pd.DataFrame({"=HYPERLINK(1)": cells, "n": np.arange(len(cells)) - 5.0})
    write(tmp_path / "t.csv", table)
    found = pd.read_csv(tmp_path / "t.csv", dtype={0: str})
    assert found.columns.tolist() == ["'=HYPERLINK(1)", "n"]
    texts = found.iloc[:, 0].tolist()
    assert texts[:4] == ["'=cmd|' /C calc'!A0", "'@SUM(A1)", "'+1+1", "'-2+3"]
    assert texts[6:9] == ["-12", "+3.5", "plain"]
    assert texts[4:6] == ["'\tx", r"\rx"]
    assert found["n"].tolist() == table["n"].tolist(), "numbers stay numbers"
    assert table.columns[0] == "=HYPERLINK(1)", "the user's table is left alone"
    write(tmp_path / "t.parquet", table)
    assert pd.read_parquet(tmp_path / "t.parquet").iloc[0, 0] == cells[0]


def test_pages_and_pictures_are_well_formed_whatever_names_hold(tmp_path):
    from xml.etree import ElementTree

    write(tmp_path / "a.svg", "<svg><text>a\x1b[31m\x07\ufffe\u202eb</text>\n\t</svg>")
    assert ElementTree.parse(tmp_path / "a.svg").getroot()[0].text == r"a\x1b[31m\x07\ufffe\u202eb"
