"""Logs: records and not lines are what is counted, skipped and continued."""

import hashlib
import os
import threading
import time

import pytest

from whp.io import Data, Log, read


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.csv"

    def write(text, mode="w"):
        with path.open(mode + "b") as file:
            file.write(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def records(path, **options):
    return [r for batch in Log(path).batches(**options) for r in batch]


def test_blank_lines_are_no_records(log):
    path = log("id,country\n1,DE\n\n2,DE\n  \n3,DE\n\n")
    assert records(path) == [["1", "DE"], ["2", "DE"], ["3", "DE"]]
    assert records(path, skip=2) == [["3", "DE"]]
    log("4,FR\n", "a")
    assert records(path, skip=3) == [["4", "FR"]]


def test_line_breaks_in_quotes_are_joined_wherever_a_batch_ends(log):
    rows = [[str(i), f"a\nb,{i}" if i % 3 else 'say "x"\n'] for i in range(50)]
    quoted = [(i, note.replace('"', '""')) for i, note in rows]
    path = log("id,note\n" + "".join(f'{i},"{note}"\r\n' for i, note in quoted))
    for size in (1, 2, 3, 7, 100):
        assert records(path, size=size) == rows
        assert [len(b) for b in Log(path).batches(size=size)][:-1] == [size] * (-(-50 // size) - 1)


def test_a_stray_quote_inside_a_field_opens_nothing(log):
    assert records(log('id,size\n1,5" pipe\n2,6"\n')) == [["1", '5" pipe'], ["2", '6"']]


def test_any_batch_can_be_continued(log):
    path = log('\ufeffid;note\n1;"a\nb"\n\n2;c\n3;"d\n\n e"\n4;f')
    whole = records(path)
    assert whole == [["1", "a\nb"], ["2", "c"], ["3", "d\n\n e"], ["4", "f"]]
    assert Log(path).header == ("id", "note")
    done = []
    for batch in Log(path).batches(size=1):
        done += batch
        assert records(path, start=batch.end) == whole[len(done) :]
    assert batch.end == path.stat().st_size
    log("\n5;g\n", "a")
    assert records(path, start=batch.end) == [["5", "g"]]


def test_a_record_that_was_read_before_it_had_ended_is_not_torn(log):
    path = log("id,country\n1,DE\n2,D")
    (batch,) = Log(path).batches()
    assert batch == [["1", "DE"], ["2", "D"]]
    log("E\n", "a")
    with pytest.raises(ValueError, match="byte 19 is not the end of a record"):
        records(path, start=batch.end)
    with pytest.raises(ValueError, match="shorter than when it was read"):
        records(path, start=10**6)


def test_a_quoted_nothing_is_a_value_of_one_column(log):
    """As pandas writes what is missing."""
    path = log('id\n1\n""\n\n2\n""\n')
    assert records(path) == [["1"], [""], ["2"], [""]]
    assert records(log("id\n1\n  \n2\n")) == [["1"], ["  "], ["2"]]
    assert records(log('id,country\n1,DE\n""\n2,DE\n')) == [["1", "DE"], [""], ["2", "DE"]]
    assert records(log('id\n"\n"\n1\n')) == [["\n"], ["1"]]


def test_a_mark_continues_no_other_file(log):
    text = "id\n0\n" + "0\n" * 200
    path = log(text)
    (batch,) = Log(path).batches()
    mark = batch.mark()
    log("1\n", "a")
    assert records(path, since=mark) == [["1"]]
    assert records(path, since=batch.mark(150)) == [["0"]] * 51 + [["1"]]
    # The first record and the last bytes are as they were.
    log("id\n0\n" + "1\n" * 50 + "0\n" * 250)
    with pytest.raises(ValueError, match="no longer as it was"):
        records(path, since=mark)
    with pytest.raises(ValueError, match="no longer as it was"):
        records(path, since=mark, rotated="continue")
    path.rename(path.with_name("old"))
    log("id\n0\n9\n")
    with pytest.raises(ValueError, match="rotated='continue'"):
        records(path, since=mark)
    assert records(path, since=mark, rotated="continue") == [["0"], ["9"]]
    log("id\n9\n" + "0\n" * 200)
    with pytest.raises(ValueError, match="another file took its place"):
        records(path, since=mark)


@pytest.mark.parametrize("size", [1, 3, 100])
def test_marks_of_batches_are_those_of_the_bytes_before(log, size):
    path = log('\ufeffid;note\n\n1;"a\nb"\n\n2;c\n3;d\n\n')
    for skip in (0, 1):
        for batch in Log(path).batches(size=size, skip=skip):
            for count in (*range(1, len(batch) + 1), None):
                mark = batch.mark(count)
                data = path.read_bytes()[: mark["end"]]
                assert mark["digest"] == hashlib.sha256(data).hexdigest()
            assert mark["end"] == batch.end


def test_a_mark_is_of_the_file_that_is_open(log):
    path = log("id\n1\n2\n3\n")
    inode = path.stat().st_ino
    batches = Log(path).batches(size=2)
    batch = next(batches)
    path.rename(path.with_name("old"))
    log("id\n1\n7\n8\n9\n")
    assert batch.mark()["inode"] == inode
    assert next(batches) == [["3"]]
    with pytest.raises(ValueError, match="no longer as it was"):
        records(path, since=batch.mark())


def test_the_last_lines_of_a_renamed_file_are_read(log, tmp_path):
    def rotate(path):
        with path.open("a") as file:
            path.rename(tmp_path / "log.1")
            path.write_text("id\n3\n4\n5\n6\n")
            time.sleep(0.02)
            file.write("8\n9\n")

    path = log("id\n1\n2\n")
    watched = Log(path).batches(follow=True)
    assert next(watched) == [["1"], ["2"]]
    rotate(path)
    assert next(watched) == [["8"], ["9"]]
    with pytest.raises(ValueError, match="another file took its place"):
        next(watched)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"id,name\n1,a\n2,M\xfcller\n", "record 2 .at byte 12. is not UTF-8"),
        (b'id,name\n1,a\n2,"secret\n3,b\n', "record 2 .at byte 12. has a quote that never closes"),
        (b"id,name\n1,a\n2,secret\rx,y\n", "record 2 .at byte 12. cannot be read: "),
        (b"id,name\n1," + b"secret" * 30_000 + b"\n", "record 1 .at byte 8. cannot be read: field"),
    ],
)
def test_a_broken_record_is_named_and_not_quoted(log, text, said):
    path = log(text)
    with pytest.raises(ValueError, match=said) as error:
        records(path)
    assert str(path) in str(error.value)
    assert "secret" not in str(error.value)
    assert "ller" not in str(error.value)


@pytest.mark.parametrize("text", ["", "id,country"])
def test_a_header_must_have_ended(log, text):
    with pytest.raises(ValueError, match="no header line yet"):
        Log(log(text))


def followed(log, change, said=None):
    """What comes after the first batch when `change` is done while the log is followed."""
    path = log("id\n1\n2\n")
    watched = Log(path).batches(follow=True)
    assert next(watched) == [["1"], ["2"]]
    threading.Timer(0.05, change, [path]).start()
    start = time.monotonic()
    if said is None:
        return next(watched)
    with pytest.raises(ValueError, match=said):
        next(watched)
    assert time.monotonic() - start < 3
    return None


def test_following_waits_for_whole_records(log):
    def grow(path):
        for piece in ('"3', '\n"', "\n"):
            log(piece, "a")
            time.sleep(0.15)

    assert followed(log, grow) == [["3\n"]]


def test_rotation_and_truncation_are_noticed(log, tmp_path):
    def rotate(path):
        path.rename(tmp_path / "log.1")
        path.write_text("id\n3\n4\n5\n6\n")

    followed(log, rotate, "another file took its place")
    followed(log, lambda path: os.truncate(path, 3), "cut short")
    followed(log, lambda path: path.unlink(), "was removed")

    def copied_and_truncated(path):
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(b"id\n7\n8\n9\n10\n")

    followed(log, copied_and_truncated, "written anew")


def test_categories_come_from_parquet_and_compressed_csv_too(tmp_path):
    import pandas as pd

    table = pd.DataFrame({"id": [1, 2], "country": ["DE", "NA"]})
    table.to_parquet(tmp_path / "t.parquet")
    table.to_csv(tmp_path / "t.csv.gz", index=False)
    table.to_json(tmp_path / "t.jsonl", orient="records", lines=True)
    for name in ("t.parquet", "t.csv.gz", "t.jsonl"):
        got = read([tmp_path / name], {"stream": Data("stream")}, required=["stream"])["stream"]
        assert got["country"].tolist() == ["DE", "NA"]
    table.to_csv(tmp_path / "t.csv", index=False)
    notes = []
    got = read([tmp_path / "t.csv"], {"stream": Data("stream")}, notes=notes)["stream"]
    assert isinstance(got, Log)
    assert notes == ["records with columns 'id', 'country'"]
