"""Plain text for a terminal. test_commands.py shows whole tables."""

from stats.management import terminal


def test_a_narrow_terminal_shows_everything():
    shown = terminal.table([["a" * 30, "some words that must not be lost"]], columns=10)

    assert " ".join(shown.split()) == "a" * 30 + " some words that must not be lost"


def test_control_characters_are_replaced():
    assert terminal.printable("a\x1b[31m\x9b\u202eb\r\nc") == "a?[31m??b?\nc"
    assert "\x1b" not in terminal.table([["\x1b[2J", "\x1b[2J"]], columns=80)
    assert "\x1b" not in terminal.sentence("\x1b[2J", columns=80)
