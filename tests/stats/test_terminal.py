"""Plain text for a terminal."""

from stats.management import terminal


def test_columns_are_aligned_and_the_last_one_wraps():
    rows = [["a", "1", "one two three four five six"], ["bcd", "23", ""]]

    assert terminal.table(rows, columns=29, right=[1]).split("\n") == [
        "a     1  one two three four",
        "         five six",
        "bcd  23",
    ]


def test_a_narrow_terminal_shows_everything():
    shown = terminal.table([["a" * 30, "some words that must not be lost"]], columns=10)

    assert " ".join(shown.split()) == "a" * 30 + " some words that must not be lost"


def test_control_characters_are_replaced():
    assert terminal.printable("a\x1b[31m\x9b\u202eb\r\nc") == "a?[31m??b?\nc"
    assert "\x1b" not in terminal.table([["\x1b[2J", "\x1b[2J"]], columns=80)
    assert "\x1b" not in terminal.sentence("\x1b[2J", columns=80)


def test_a_cut_text_is_marked():
    assert [terminal.shortened(text, 4) for text in ("abcd", "abcde")] == ["abcd", "abc~"]
