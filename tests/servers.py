"""Private PostgreSQL, PgBouncer, Redis and RabbitMQ servers, on free ports and in temporary directories."""

import os
import pwd
import shutil
import signal
import subprocess
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import psycopg
from kombu import Connection
from kombu.exceptions import OperationalError
from redis import Redis, RedisError

from tests.processes import Process, free_port, scratch_directory, wait_until

#: A server's environment. Variables such as PGDATA and PGHOST would configure it and are left out.
_ENVIRONMENT = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


#: Debian's directory of PostgreSQL versions.
DEBIAN_POSTGRESQL = Path("/usr/lib/postgresql")

#: Debian's RabbitMQ. Its programs on PATH would run as the account `rabbitmq`, with the machine's files.
DEBIAN_RABBITMQ = Path("/usr/lib/rabbitmq/bin")


class ServerMissing(RuntimeError):
    """A server's binary is missing. The message names the package to install."""


class Server:
    """A server with one process and a fixed port, which tests can stop, kill and freeze.

    A context manager. A server that is not stopped ends with the tests.
    """

    name: str
    port: int
    #: Signal for a clean shutdown that does not wait for clients.
    shutdown = signal.SIGTERM
    #: Maximum number of seconds until the server responds after its start.
    start_timeout = 30.0

    @cached_property
    def process(self) -> Process:
        """Return the server's process, which is not started. The first call creates its directory.

        :raises ServerMissing: The server is not installed.
        """
        raise NotImplementedError

    def answers(self) -> bool:
        """Return whether this server responds to a client within two seconds."""
        raise NotImplementedError

    def start(self) -> Self:
        """Start the server and wait until it responds."""
        self.process.start()
        wait_until(self._is_up, self.start_timeout, f"the start of {self.name}")
        return self

    def _is_up(self) -> bool:
        if not self.process.is_running:
            raise RuntimeError(f"{self.name} ended with {self.process.exit_code}:\n{self.process.output()[-2000:]}")
        return self.answers()

    def stop(self) -> None:
        """Shut down cleanly, which closes all connections."""
        self.process.stop(self.shutdown)

    def kill(self) -> None:
        """Kill every process of the server with SIGKILL."""
        self.process.kill()

    def restart(self) -> None:
        """Shut down cleanly if the server runs, and start it again with the same port and files."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """Stop its processes. The kernel still accepts connections for it."""
        self.process.freeze()

    def thaw(self) -> None:
        """Undo `freeze`."""
        self.process.thaw()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.process.cwd, ignore_errors=True)


class PostgresServer(Server):
    """A PostgreSQL cluster that accepts every local connection without a password.

    :param durable: Flush commits to the disk as in production. Otherwise a kill may lose commits.
    :param directory: Directory of a cluster that exists or is created. By default a temporary one.
    """

    name = "PostgreSQL"
    user = "postgres"
    shutdown = signal.SIGINT

    def __init__(self, *, durable: bool = False, directory: Path | None = None) -> None:
        self.port = free_port()
        self._durable = durable
        self._directory = directory

    @cached_property
    def process(self) -> Process:
        directory, account = self._directory or scratch_directory("pg"), _unprivileged_account()
        if account:
            shutil.chown(directory, account)
        if not (directory / "data").exists():
            self._make_cluster(directory, account)
        return Process(
            self._command(directory), env=_ENVIRONMENT, cwd=directory, log=directory / "postgres.log", user=account
        )

    def _make_cluster(self, directory: Path, account: str | None) -> None:
        log = directory / "initdb.log"
        made = Process(self._initdb(directory), env=_ENVIRONMENT, cwd=directory, log=log, user=account)
        made.start()
        if made.wait() != 0:
            raise RuntimeError(f"initdb failed:\n{made.output()}")

    def _initdb(self, directory: Path) -> list[str]:
        data = ["-D", str(directory / "data"), "--no-sync"]
        return [str(postgres_binary("initdb")), *data, "-U", self.user, "-A", "trust", "-E", "UTF8", "--locale=C"]

    def _command(self, directory: Path) -> list[str]:
        settings: dict[str, Any] = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": directory,
            "max_connections": 200,
            "shared_buffers": "32MB",
            "autovacuum_naptime": "1d",
            "log_min_messages": "fatal",
        }
        if not self._durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(postgres_binary("postgres")), "-D", str(directory / "data"), *options]

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        return f"postgresql://{self.user}@127.0.0.1:{self.port}/{database}"

    @property
    def env(self) -> dict[str, str]:
        """Return the settings that point the gateway to this server. The caller adds DB_NAME."""
        return {"DB_HOST": "127.0.0.1", "DB_PORT": str(self.port), "DB_USER": self.user, "DB_SSLMODE": "disable"}

    def answers(self) -> bool:
        try:
            with psycopg.connect(self.url, connect_timeout=2) as connection:
                return connection.execute("SHOW data_directory").fetchone() == (str(self.process.cwd / "data"),)
        except psycopg.OperationalError:
            return False

    def execute(self, statement: str) -> None:
        """Run one statement, outside of a transaction and of every gateway's database."""
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(statement.encode())

    def create_database(self, name: str, *, template: str = "template1") -> None:
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')

    def drop_database(self, name: str) -> None:
        """Drop a database and close its connections."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


class RedisServer(Server):
    """A Redis server that keeps its data in memory.

    :param appendonly: Write every command to the disk before responding, so that a restart loses nothing.
    """

    name = "Redis"

    def __init__(self, *, appendonly: bool = False) -> None:
        self.port = free_port()
        self._appendonly = appendonly

    @cached_property
    def process(self) -> Process:
        directory = scratch_directory("redis")
        return Process(self._command(directory), env=_ENVIRONMENT, cwd=directory, log=directory / "redis.log")

    def _command(self, directory: Path) -> list[str]:
        files = ["--appendonly", "yes", "--appendfsync", "always"] if self._appendonly else ["--appendonly", "no"]
        address = ["--bind", "127.0.0.1", "--port", str(self.port)]
        limits = ["--databases", "64", "--maxmemory-policy", "noeviction"]
        return [str(redis_binary()), *address, "--save", "", *files, *limits, "--dir", str(directory)]

    @property
    def url(self) -> str:
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        return f"redis://127.0.0.1:{self.port}/{database}"

    @property
    def env(self) -> dict[str, str]:
        """Return the settings that point the gateway to this server."""
        return {"QUEUE_TYPE": "redis", "REDIS_URL": self.url}

    def client(self) -> Redis:
        """Return a client with a timeout of two seconds."""
        return Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2)

    def answers(self) -> bool:
        try:
            with self.client() as client:
                return client.info("server")["process_id"] == self.process.pid
        except RedisError:
            return False

    def flush(self) -> None:
        """Delete all keys of all databases."""
        with self.client() as client:
            client.flushall()


class RedisSentinel(Server):
    """A sentinel that knows where the Redis master `mymaster` is."""

    name = "Redis Sentinel"

    def __init__(self, master: RedisServer) -> None:
        self.port = free_port()
        self._master = master

    @cached_property
    def process(self) -> Process:
        directory = scratch_directory("sentinel")
        configuration = directory / "sentinel.conf"
        configuration.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor mymaster 127.0.0.1 {self._master.port} 1\n"
        )
        command = [str(redis_binary()), str(configuration), "--sentinel"]
        return Process(command, env=_ENVIRONMENT, cwd=directory, log=directory / "sentinel.log")

    @property
    def url(self) -> str:
        return f"sentinel://127.0.0.1:{self.port}"

    def answers(self) -> bool:
        try:
            with Redis(port=self.port, socket_timeout=2, socket_connect_timeout=2) as client:
                return bool(client.execute_command("SENTINEL", "get-master-addr-by-name", "mymaster"))
        except RedisError:
            return False


class PgBouncer(Server):
    """A pooler in front of a PostgreSQL server, which gives each transaction any of its few connections."""

    name = "PgBouncer"

    def __init__(self, postgres: PostgresServer, *, connections: int = 5) -> None:
        self.port = free_port()
        self._postgres = postgres
        self._connections = connections

    @cached_property
    def process(self) -> Process:
        directory, account = scratch_directory("pgbouncer"), _unprivileged_account()
        directory.chmod(0o755)  # the other account reads it
        (directory / "pgbouncer.ini").write_text(
            f"""
            [databases]
            * = host=127.0.0.1 port={self._postgres.port} user={self._postgres.user}
            [pgbouncer]
            listen_addr = 127.0.0.1
            listen_port = {self.port}
            unix_socket_dir =
            ignore_startup_parameters = extra_float_digits
            auth_type = any
            pool_mode = transaction
            default_pool_size = {self._connections}
            """.replace("    ", "")
        )
        command = [str(program("pgbouncer", package="pgbouncer")), "pgbouncer.ini"]
        return Process(command, env=_ENVIRONMENT, cwd=directory, log=directory / "pgbouncer.log", user=account)

    @property
    def env(self) -> dict[str, str]:
        """Return the settings that point the gateway to this server. The caller adds DB_NAME."""
        return self._postgres.env | {"DB_PORT": str(self.port)}

    def answers(self) -> bool:
        try:
            psycopg.connect(f"postgresql://{self._postgres.user}@127.0.0.1:{self.port}/postgres").close()
        except psycopg.OperationalError:
            return False
        return True


class RabbitMQServer(Server):
    """A RabbitMQ server with an Erlang port mapper of its own. Its start takes 5 seconds, many on a busy machine."""

    name = "RabbitMQ"
    start_timeout = 120.0

    def __init__(self) -> None:
        self.port, self._distribution_port, self._mapper_port = free_port(), free_port(), free_port()

    @cached_property
    def process(self) -> Process:
        directory = scratch_directory("rabbitmq")
        (directory / "rabbitmq.conf").write_text(f"listeners.tcp.local = 127.0.0.1:{self.port}\n")
        # The mapper has the process's session, so it ends with the server.
        command = ["sh", "-c", 'epmd & exec "$0"', str(rabbitmq_binary("rabbitmq-server"))]
        return Process(command, env=self._env(directory), cwd=directory, log=directory / "rabbitmq.log")

    def _env(self, directory: Path) -> dict[str, str]:
        return _ENVIRONMENT | {
            "HOME": str(directory),  # of the cookie that authenticates `rabbitmqctl`
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": "/dev/null",
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_MNESIA_BASE": str(directory / "mnesia"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_DIST_PORT": str(self._distribution_port),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
            "ERL_EPMD_PORT": str(self._mapper_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }

    @property
    def _node(self) -> str:
        return f"rabbit{self.port}@localhost"

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}//"

    @property
    def env(self) -> dict[str, str]:
        """Return the settings that point the gateway to this server."""
        return {"QUEUE_TYPE": "rabbitmq", "QUEUE_URL": self.url}

    def answers(self) -> bool:
        try:
            with Connection(self.url, connect_timeout=2) as connection:
                connection.ensure_connection(max_retries=1, timeout=2)
        except OperationalError:
            return False
        return True

    def control(self, *arguments: str) -> None:
        """Run `rabbitmqctl` on this server."""
        command = [rabbitmq_binary("rabbitmqctl"), "--node", self._node, *arguments]
        subprocess.run(command, env=self._env(self.process.cwd), check=True, capture_output=True)


# --- where the binaries are ------------------------------------------------------------------------------------------


def postgres_binary(name: str) -> Path:
    """Return the path of a PostgreSQL server program of the newest version.

    :raises ServerMissing: It is not installed.
    """
    for directory in _postgres_directories():
        if (directory / name).is_file():
            return directory / name
    raise ServerMissing(f"PostgreSQL's program {name!r} is not on this machine: install Debian's package `postgresql`")


def _postgres_directories() -> Iterator[Path]:
    if pg_config := shutil.which("pg_config"):
        done = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        yield Path(done.stdout.strip() or "/nowhere")
    versions = DEBIAN_POSTGRESQL.glob("[0-9]*/bin")
    yield from sorted(versions, key=lambda path: float(path.parent.name), reverse=True)
    yield from map(Path, os.environ.get("PATH", os.defpath).split(os.pathsep))


def redis_binary() -> Path:
    """Return the path of the Redis server.

    :raises ServerMissing: It is not installed.
    """
    return program("redis-server", package="redis-server")


def rabbitmq_binary(name: str) -> Path:
    """Return the path of a RabbitMQ program.

    :raises ServerMissing: It is not installed.
    """
    path = DEBIAN_RABBITMQ / name
    return path if path.is_file() else program(name, package="rabbitmq-server")


def program(name: str, *, package: str) -> Path:
    """Return the path of a program.

    :raises ServerMissing: It is not installed.
    """
    if found := shutil.which(name):
        return Path(found)
    raise ServerMissing(f"The program {name!r} is not on this machine: install Debian's package `{package}`")


def _unprivileged_account() -> str | None:
    """Return the account that runs PostgreSQL, which refuses root. None means the current account."""
    if os.geteuid() != 0:
        return None
    accounts = {account.pw_name for account in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in accounts:
            return name
    raise ServerMissing("PostgreSQL refuses to run as root, and there is no account `postgres` or `nobody`")
