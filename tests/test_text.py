import pytest

from whp.text import nearest, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, naïve, Ωmega, 日本, 👩\u200d💻", "plain, naïve, Ωmega, 日本, 👩\u200d💻"),
        ("\x1b]0;pwn\x07\x1b[31m", r"\x1b]0;pwn\x07\x1b[31m"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("zero\u200bwidth\ufeff", r"zero\u200bwidth\ufeff"),
        ("lone \udc80", r"lone \udc80"),
        ("xml \ufffe\uffff", r"xml \ufffe\uffff"),
        ("tag \U000e0041", r"tag \U000e0041"),
        ("line\u2028end\u2029\x85", r"line\u2028end\u2029\x85"),
        ("two\nlines\tand\rback", "two\nlines\tand\\rback"),
    ],
)
def test_what_cannot_be_seen_is_shown_as_an_escape(text, shown):
    assert visible(text) == shown


def test_line_breaks_can_be_shown_too():
    assert visible("a\nb\tc", keep="") == r"a\nb\tc"


def test_every_control_character_is_shown():
    import unicodedata

    for code in range(0x110000):
        if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp") and chr(code) not in "\n\t":
            assert visible(chr(code)) != chr(code), hex(code)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("delivery time", "; did you mean 'Delivery time (min)'?"),
        ("PRICE", "; did you mean 'price'?"),
        ("pirce", "; did you mean 'price'?"),
        ("zebra", ""),
    ],
)
def test_the_nearest_name(name, told):
    assert nearest(name, ["Delivery time (min)", "price", "x"]) == told
