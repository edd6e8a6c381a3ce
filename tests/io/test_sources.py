import pytest

from whp.io.sources import text_of


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("utf-8", "byte 0xe9 at 3 is not UTF-8; save it as UTF-8, or give --encoding"),
        ("ascii", "byte 0xe9 at 3 is not ascii"),
        ("zlib", "there is no encoding 'zlib'"),
        ("undefined", "there is no encoding 'undefined'"),
        ("", "there is no encoding ''"),
    ],
)
def test_texts_in_other_encodings_are_named(tmp_path, encoding, message):
    path = tmp_path / "menu.txt"
    path.write_bytes("caf\xe9".encode("latin-1"))
    assert text_of(path, "latin-1") == "caf\xe9"
    with pytest.raises(ValueError, match=message):
        text_of(path, encoding)


def test_byte_order_marks_are_no_part_of_a_text(tmp_path):
    path = tmp_path / "menu.txt"
    path.write_text("caf\xe9", "utf-8-sig")
    assert text_of(path) == text_of(path, "UTF8") == "caf\xe9"
    path.write_text("caf\xe9", "utf-16")
    assert text_of(path, "utf-16") == "caf\xe9"
    with pytest.raises(ValueError, match="it is UTF-16; give --encoding utf-16"):
        text_of(path)
