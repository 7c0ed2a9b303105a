"""The tests' own infrastructure: private servers, processes that end with the tests, a private environment."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
import redis as redis_client

from tests import environment, install_servers, processes, servers
from tests.servers import PostgresServer, RedisServer, ServerMissing


def run_python(code: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=environment.ROOT,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


# --- servers ---------------------------------------------------------------------------------------------------------


def test_a_killed_postgresql_keeps_committed_rows() -> None:
    with PostgresServer(durable=True) as server:
        server.execute("CREATE TABLE kept AS SELECT 7 AS number")
        members = processes.family(server.process.pid)

        server.kill()

        assert not server.answers()
        assert len(members) > 1, "the postmaster has children"
        assert not [pid for pid in members if processes.exists(pid)]
        server.start()
        with psycopg.connect(server.url) as connection:
            assert connection.execute("SELECT number FROM kept").fetchall() == [(7,)]


@pytest.mark.parametrize("appendonly", [True, False])
def test_redis_can_be_frozen_and_killed(appendonly: bool) -> None:
    with RedisServer(appendonly=appendonly) as server, server.client() as client:
        client.set("key", "value")
        server.freeze()
        with pytest.raises(redis_client.exceptions.TimeoutError):
            client.ping()
        server.thaw()
        assert server.answers()

        server.kill()
        server.start()

        assert client.get("key") == (b"value" if appendonly else None)


def test_a_failed_start_reports_the_servers_output() -> None:
    with RedisServer() as first:
        second = RedisServer()
        second.port = first.port
        with pytest.raises(RuntimeError, match="in use"):
            second.start()


# --- missing servers -----------------------------------------------------------------------------------------


PACKAGES = [
    "postgresql",
    "redis-server",
    "pgbouncer",
    "rabbitmq-server",
    "chromium",
    "gettext",
    "prometheus",
    "openssl",
]


@pytest.fixture
def no_servers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Simulate a machine without servers. Its PATH is the returned directory, in which a test can create programs."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(servers, "DEBIAN_POSTGRESQL", tmp_path)
    monkeypatch.setattr(servers, "DEBIAN_RABBITMQ", tmp_path)
    return tmp_path


def test_without_apt_the_error_about_a_missing_server_names_its_package(no_servers: Path) -> None:
    with pytest.raises(ServerMissing, match="`redis-server`"):
        servers.redis_binary()
    with pytest.raises(ServerMissing, match="`postgresql`"):
        servers.postgres_binary("initdb")
    with pytest.raises(SystemExit, match=" and ".join(PACKAGES)):
        install_servers.main()


def test_without_root_the_error_shows_the_install_command(no_servers: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(no_servers / "apt-get", "exit 0")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit, match="sudo apt-get install " + " ".join(PACKAGES)):
        install_servers.main()
    with pytest.raises(SystemExit, match=r"sudo apt-get install redis-server$"):
        install_servers.main(["redis-server"])


def test_the_services_of_installed_packages_do_not_start(
    no_servers: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    policy, calls = tmp_path / "policy-rc.d", tmp_path / "calls"
    monkeypatch.setattr(install_servers, "POLICY", policy)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    for name in ("sh", "rm", "chmod", "touch"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    program(
        tmp_path / "apt-get", f'{policy}; echo "$1 $?" >> {calls}; touch {tmp_path}/postgres {tmp_path}/redis-server'
    )
    for name in ("redis-server", "pgbouncer", "rabbitmq-server", "chromium", "xgettext", "promtool", "openssl"):
        program(tmp_path / name, "exit 0")

    install_servers.main()

    assert calls.read_text() == "update 101\ninstall 101\n"
    assert not policy.exists()


def program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


# --- the end of the tests --------------------------------------------------------------------------------------------

_LEAVES_A_SERVER_BEHIND = """
import os, signal
from tests.processes import family, reaper
from tests.servers import RedisServer
server = RedisServer().start()
print(server.process.pid, reaper().scratch, flush=True)
{end}
"""


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "raise SystemExit", "server.freeze()"])
def test_no_server_outlives_the_tests_that_started_it(end: str) -> None:
    done = run_python(_LEAVES_A_SERVER_BEHIND.format(end=end))

    pid, scratch = done.stdout.split()
    processes.wait_until(lambda: not processes.exists(int(pid)), 10, "the server's end")
    processes.wait_until(lambda: not Path(scratch).exists(), 10, "the removal of its files")


def test_the_descendants_of_a_killed_process_end_with_it() -> None:
    directory = processes.scratch_directory("family")
    # One child in a session of its own, one whose parent has ended, and one in the foreground.
    command = ["sh", "-c", "setsid sleep 100 & (sleep 100 &) ; sleep 100"]
    process = processes.Process(command, env=dict(os.environ), cwd=directory, log=directory / "log")
    process.start()
    processes.wait_until(lambda: len(processes.family(process.pid)) >= 4, 10, "the children")
    members = processes.family(process.pid)

    process.kill()

    processes.wait_until(lambda: not any(map(processes.exists, members)), 10, "the end of the descendants")
    assert process.exit_code is None
    assert not process.is_running


# --- the environment -------------------------------------------------------------------------------------------------


def test_the_developers_environment_does_not_reach_the_settings(tmp_path: Path) -> None:
    code = f"""
from tests import environment
environment.take_over(DB_NAME="{tmp_path}/x.sqlite3", VAR_DIR="{tmp_path}")
from leadgateway import settings
import os
print(settings.ENABLE_AUTH, settings.DATABASES["default"]["NAME"], settings.LOG_LEVEL, os.environ.get("PGHOST"))
"""
    leaks = {"ENABLE_AUTH": "true", "DATABASE_URL": "postgres://a@b/c", "DB_HOST": "nowhere", "LOG_LEVEL": "nonsense"}

    done = run_python(code, **leaks, PGHOST="nowhere", SHARED_SECRET_FILE="/nonexistent")

    assert done.stdout.split() == ["False", f"{tmp_path}/x.sqlite3", "info", "None"], done.stderr


def test_a_process_of_the_gateway_does_not_inherit_our_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--bind=0.0.0.0:1")
    monkeypatch.setenv("DB_HOST", "nowhere")
    env = environment.of_a_process(DB_PORT="7")
    assert (env["DB_HOST"], env["DB_PORT"]) == ("", "7")
    assert "GUNICORN_CMD_ARGS" not in env
    assert env["PATH"].startswith(str(environment.ROOT / ".venv"))
    with pytest.raises(ValueError, match="NO_SUCH"):
        environment.of_a_process(NO_SUCH="1")
