from datetime import timedelta

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from leadgateway.env import Environment, parse_duration


@pytest.fixture
def env():
    return Environment()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("30s", 30),
        ("1m30s", 90),
        ("2h", 7200),
        ("1.5h", 5400),
        ("0", 0),
        ("0s", 0),
        ("100us", 0.0001),
        ("100µs", 0.0001),
        ("1h0m1s", 3601),
        (".5s", 0.5),
    ],
)
def test_a_duration_is_read_as_go_reads_it(text, seconds):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "30", "30 s", "s", "-1s", "1d", "1m 30s", "٣s", "1e3s", "9999999h", "30S", "1..5s"]
)
def test_what_go_would_not_read_is_refused(text):
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


READERS = st.sampled_from(
    [
        lambda env, name: env.rate(name),
        lambda env, name: env.duration(name, "30s", low=timedelta(seconds=1)),
        lambda env, name: env.integer(name, 5, low=1, high=100),
        lambda env, name: env.boolean(name, True),
        lambda env, name: env.days(name, ("delivered", "rejected")),
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


@given(st.integers(0, 8000), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_every_duration_that_go_prints_is_read_back(hours, minutes, seconds, ms):
    expected = timedelta(hours=hours, minutes=minutes, seconds=seconds, milliseconds=ms)

    assert parse_duration(f"{hours}h{minutes}m{seconds}s{ms}ms") == expected


@pytest.mark.parametrize(
    ("read", "value", "allowed"),
    [
        (lambda env: env.duration("X", "30s"), "soon", "500ms, 30s, 1m30s or 2h"),
        (lambda env: env.duration("X", "30s", low=timedelta(seconds=1)), "10ms", "at least 1s"),
        (lambda env: env.integer("X", 5, low=1, high=9), "10", "a whole number from 1 to 9"),
        (lambda env: env.integer("X", 5, low=1, high=9), "0x1", "a whole number from 1 to 9"),
        (lambda env: env.integer("X", 5, low=1, high=9), "5.0", "a whole number from 1 to 9"),
        (lambda env: env.boolean("X", False), "yes", "true or false"),
        (lambda env: env.choice("X", "a", ("a", "b")), "c", "one of a, b"),
        *(
            (lambda env: env.rate("X"), value, "20/s or 90/m")
            for value in ("20", "0/s", "-1/s", "1.5/s", "9/h", "fast")
        ),
    ],
)
def test_a_bad_value_is_refused_with_name_value_and_what_is_allowed(env, monkeypatch, read, value, allowed):
    monkeypatch.setenv("X", value)

    read(env)

    with pytest.raises(ImproperlyConfigured) as refusal:
        env.check()
    assert str(refusal.value).startswith(f"X: {value!r} is not allowed; expected ")
    assert allowed in str(refusal.value)


@pytest.mark.parametrize(("text", "seconds"), [("20/s", 0.05), ("1/s", 1), ("90/m", 2 / 3), ("1/m", 60)])
def test_a_rate_is_read_as_the_time_between_two_events(env, monkeypatch, text, seconds):
    monkeypatch.setenv("X", text)

    assert env.rate("X") == timedelta(seconds=seconds)
    assert env.rate("Y") is None


def test_all_problems_are_reported_together(env, monkeypatch):
    monkeypatch.setenv("A", "many")
    monkeypatch.setenv("B", "later")
    env.integer("A", 1, low=1, high=2)
    env.duration("B", "1s")

    with pytest.raises(ImproperlyConfigured, match=r"(?s)A: .*\nB: "):
        env.check()


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("TRUE", True), ("1", True), ("t", True), ("False", False), ("0", False)]
)
def test_booleans_are_read_as_go_reads_them(env, monkeypatch, text, value):
    monkeypatch.setenv("X", text)

    assert env.boolean("X", not value) is value
    env.check()


def test_an_empty_value_counts_as_not_set(env, monkeypatch):
    monkeypatch.setenv("X", "  ")

    assert env.text("X", "default") == "default"
    assert env.integer("X", 7, low=1, high=9) == 7


def test_a_list_has_no_empty_entries(env, monkeypatch):
    monkeypatch.setenv("X", " new , old ,,")

    assert env.words("X") == ["new", "old"]


def test_a_secret_may_come_from_a_file(env, monkeypatch, tmp_path):
    (tmp_path / "token").write_text("from the file\n")
    monkeypatch.setenv("X_FILE", str(tmp_path / "token"))

    assert env.text("X") == "from the file"


def test_a_missing_secret_file_stops_the_start(env, monkeypatch, tmp_path):
    monkeypatch.setenv("X_FILE", str(tmp_path / "nothing"))
    env.text("X")

    with pytest.raises(ImproperlyConfigured, match="X_FILE: there is no readable file"):
        env.check()


def test_dotenv_gives_way_to_the_real_environment(monkeypatch, tmp_path):
    (tmp_path / ".env").write_text("DOTENV_A=file\nDOTENV_B=file\n")
    monkeypatch.setenv("DOTENV_A", "real")
    monkeypatch.setenv("DOTENV_B", "")
    monkeypatch.delenv("DOTENV_B")

    env = Environment(tmp_path / ".env")

    assert (env.text("DOTENV_A"), env.text("DOTENV_B")) == ("real", "file")
    monkeypatch.delenv("DOTENV_B")


@pytest.mark.parametrize(
    ("text", "days"),
    [
        ("delivered=180", {"delivered": 180}),
        (" Delivered = 180 , rejected=030, ", {"delivered": 180, "rejected": 30}),
        ("", {}),
    ],
)
def test_days_by_name(env, monkeypatch, text, days):
    monkeypatch.setenv("DAYS", text)

    assert env.days("DAYS", ("delivered", "rejected")) == {name: timedelta(days=count) for name, count in days.items()}
    env.check()


@pytest.mark.parametrize(
    "text",
    [
        *("180", "delivered", "delivered=", "delivered=0", "delivered=-1", "delivered=1.5", "delivered=1d"),
        *("received=30", "delivered=1,delivered=2", "delivered=1 rejected=2", "x-delivered=1", "delivered=100000"),
    ],
)
def test_days_that_are_not_understood_stop_the_start(env, monkeypatch, text):
    monkeypatch.setenv("DAYS", text)

    assert env.days("DAYS", ("delivered", "rejected")) == {}
    with pytest.raises(
        ImproperlyConfigured, match="expected days from 1 to 99999 such as delivered=180, for delivered"
    ):
        env.check()
