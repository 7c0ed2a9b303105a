from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from leadgateway.env import Environment, RateLimit, parse_duration


@pytest.fixture
def env():
    return Environment()


# --- durations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("1m30s", 90), ("1.5h", 5400), ("0", 0), ("100us", 0.0001), ("100µs", 0.0001), (".5s", 0.5)],
)
def test_durations_have_the_notation_of_go(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "30", "30 s", "s", "-1s", "1d", "1m 30s", "٣s", "1e3s", "9999999h", "30S"])
def test_other_notations_of_a_duration_are_refused(text):
    with pytest.raises(ValueError, match=r"duration|longer"):
        parse_duration(text)


LIKE_A_DURATION = st.lists(st.sampled_from([*"0123456789.", "ms", "s", "m", "h", "ns", "µs", "٣", "1e9"])).map("".join)


@given(st.text(max_size=20) | LIKE_A_DURATION)
def test_any_text_is_a_duration_within_a_year_or_refused(text):
    try:
        duration = parse_duration(text)
    except ValueError:
        return
    assert timedelta() <= duration <= timedelta(days=366)


@given(st.integers(0, 8000), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_any_duration_within_a_year_can_be_written(hours, minutes, seconds, ms):
    expected = timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=ms)

    assert parse_duration(f"{hours}h{minutes}m{seconds}s{ms}ms") == expected


# --- valid values ----------------------------------------------------------------------------------------------------

RETENTION = ("delivered", "rejected")


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        (lambda env: env.text("X", "default"), "  ", "default"),
        (lambda env: env.integer("X", 7, low=1, high=9), "", 7),
        (lambda env: env.integer("X", 7, low=-1, high=9), "-1", -1),
        *((lambda env: env.boolean("X", False), text, True) for text in ("true", "TRUE", "1", "t")),
        *((lambda env: env.boolean("X", True), text, False) for text in ("False", "0")),
        (lambda env: env.words("X"), " new , old ,,", ["new", "old"]),
        (lambda env: env.choice("X", "a", ("a", "b")), "B", "b"),
        (lambda env: env.duration("X", "30s"), "2h", timedelta(hours=2)),
        (lambda env: env.limit("X"), "90/m", RateLimit(90, timedelta(minutes=1))),
        (lambda env: env.rate("X"), "20/s", timedelta(seconds=0.05)),
        (lambda env: env.rate("X"), "90/m", timedelta(minutes=1) / 90),
        (lambda env: env.rate("X"), "", None),
        (lambda env: env.days("X", RETENTION), "delivered=180", {"delivered": timedelta(days=180)}),
        (
            lambda env: env.days("X", RETENTION),
            " Delivered = 180 , rejected=030, ",
            {"delivered": timedelta(days=180), "rejected": timedelta(days=30)},
        ),
        (lambda env: env.days("X", RETENTION), "", {}),
    ],
)
def test_a_valid_value_is_read(env, monkeypatch, read, text, value):
    monkeypatch.setenv("X", text)

    assert read(env) == value
    env.check()


def test_a_secret_may_come_from_a_file(env, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("from the file\n")
    monkeypatch.setenv("TOKEN_FILE", str(tmp_path / "token"))

    assert env.text("TOKEN") == "from the file"


def test_the_environment_takes_precedence_over_the_dotenv_file(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("DOTENV_A=file\nDOTENV_B=file\n")
    monkeypatch.setenv("DOTENV_A", "real")
    monkeypatch.setenv("DOTENV_B", "")
    monkeypatch.delenv("DOTENV_B")

    env = Environment(tmp_path / ".env")

    assert (env.text("DOTENV_A"), env.text("DOTENV_B")) == ("real", "file")
    monkeypatch.delenv("DOTENV_B")


# --- invalid values --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("read", "value", "allowed"),
    [
        (lambda env: env.duration("X", "30s"), "soon", "500ms, 30s, 1m30s or 2h"),
        (lambda env: env.duration("X", "30s", low=timedelta(seconds=1)), "10ms", "at least 1s"),
        *(
            (lambda env: env.integer("X", 5, low=1, high=9), value, "a whole number from 1 to 9")
            for value in ("10", "0x1", "5.0")
        ),
        (lambda env: env.boolean("X", False), "yes", "true or false"),
        (lambda env: env.choice("X", "a", ("a", "b")), "c", "one of a, b"),
        *((lambda env: env.rate("X"), value, "20/s or 90/m") for value in ("20", "0/s", "-1/s", "1.5/s", "9/h")),
        *(
            (lambda env: env.days("X", RETENTION), value, "days from 1 to 99999 such as delivered=180, for delivered")
            for value in (
                *("180", "delivered", "delivered=", "delivered=0", "delivered=-1", "delivered=1.5", "delivered=1d"),
                *("received=30", "delivered=1,delivered=2", "delivered=1 rejected=2", "delivered=100000"),
            )
        ),
    ],
)
def test_an_invalid_value_is_refused_with_name_value_and_allowed_values(env, monkeypatch, read, value, allowed):
    monkeypatch.setenv("X", value)

    read(env)

    with pytest.raises(ImproperlyConfigured) as refusal:
        env.check()
    assert str(refusal.value).startswith(f"X: {value!r} is not allowed; expected ")
    assert allowed in str(refusal.value)


def test_all_problems_are_reported_together(env, monkeypatch, tmp_path):
    monkeypatch.setenv("A", "many")
    monkeypatch.setenv("B_FILE", str(tmp_path / "nothing"))
    env.integer("A", 1, low=1, high=2)
    env.text("B")

    with pytest.raises(ImproperlyConfigured, match=r"(?s)A: .*\nB_FILE: there is no readable file"):
        env.check()


READERS = st.sampled_from(
    [
        lambda env, name: env.rate(name),
        lambda env, name: env.duration(name, "30s", low=timedelta(seconds=1)),
        lambda env, name: env.integer(name, 5, low=1, high=100),
        lambda env, name: env.boolean(name, True),
        lambda env, name: env.days(name, RETENTION),
        lambda env, name: env.choice(name, "info", ("info", "debug")),
        lambda env, name: env.words(name, "a,b"),
    ]
)


@given(
    READERS,
    st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=20)
    | st.lists(st.sampled_from([*"0123456789,=/sm-", "delivered", "rejected"])).map("".join),
)
def test_any_value_is_read_or_noted_as_a_problem(read, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANY_VALUE", text)
        env = Environment()
        read(env, "ANY_VALUE")

    assert all(problem.startswith("ANY_VALUE") for problem in env.problems)
