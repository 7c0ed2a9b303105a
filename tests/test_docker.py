"""The Docker files without Docker: their contents, and that the services run with only the files of the image."""

import json
import re
import shlex
import subprocess
import sys
import threading
import venv
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, HTTPServer
from importlib import metadata
from shutil import copy, copytree, ignore_patterns
from typing import Any

import pytest
import requests
import yaml
from django.core.management import get_commands
from packaging.requirements import Requirement

from leadgateway import settings
from leadgateway.env import parse_duration
from tests.environment import ROOT
from tests.processes import Process, free_port, scratch_directory, wait_until
from tests.servers import PostgresServer, RedisServer

Service = dict[str, Any]

#: The Procfile line that each service runs.
PROCESSES = {"api": "web", "worker": "worker", "beat": "beat"}
GATEWAY = ("migrate", *PROCESSES, "customer")

#: Settings that are fixed in a container.
FIXED_IN_THE_IMAGE = {"API_HOST", "API_PORT", "VAR_DIR"}
READ_BY_GUNICORN = {"FORWARDED_ALLOW_IPS"}
#: Settings with another default in Docker, because the services have other host names there.
DIFFERENT_IN_DOCKER = {"DB_HOST", "REDIS_URL", "CUSTOMER_API_URL", "ALLOWED_HOSTS"} | READ_BY_GUNICORN

VARIABLE = re.compile(r"\$\{(?P<name>[A-Z_]+):-(?P<default>[^}]*)\}")


# --- reading the files -----------------------------------------------------------------------------------------------


def _read(name: str) -> str:
    return (ROOT / name).read_text()


def _compose(**dotenv: str) -> dict[str, Any]:
    """Return docker-compose.yml as Compose reads it with these variables in `.env`."""
    return _filled(yaml.safe_load(_read("docker-compose.yml")), dotenv)


def _filled(node: Any, dotenv: Mapping[str, str]) -> Any:
    if isinstance(node, dict):
        return {key: _filled(value, dotenv) for key, value in node.items()}
    if isinstance(node, list):
        return [_filled(value, dotenv) for value in node]
    if isinstance(node, str):
        filled = VARIABLE.sub(lambda found: dotenv.get(found["name"]) or found["default"], node)
        return filled.replace("$$", "$")
    return node


def _service(name: str, **dotenv: str) -> Service:
    return _compose(**dotenv)["services"][name]


def _environment(name: str, **dotenv: str) -> dict[str, str]:
    return _service(name, **dotenv)["environment"]


def _procfile() -> dict[str, str]:
    return dict(line.split(": ", 1) for line in _read("Procfile").splitlines())


def _instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile with their arguments."""
    code = re.sub(r"^\s*#.*\n", "", _read("Dockerfile"), flags=re.MULTILINE).replace("\\\n", " ")
    return [(word, rest) for line in code.splitlines() if line for word, rest in [line.split(None, 1)]]


def _final_stage() -> list[tuple[str, str]]:
    found = _instructions()
    return found[max(number for number, (word, _) in enumerate(found) if word == "FROM") :]


def _arguments(word: str) -> list[str]:
    """Return the arguments of each instruction of this kind in the final stage."""
    return [rest for found, rest in _final_stage() if found == word]


def _copied() -> list[str]:
    """Return the paths that the final stage copies from the checkout."""
    copies = [rest.split() for rest in _arguments("COPY") if not rest.startswith("--from")]
    return [source for words in copies for source in words[:-1]]


def _in_build_context(path: str) -> bool:
    """Return whether .dockerignore includes a file. The last line that matches it or a parent folder decides."""
    parents = ["/".join(path.split("/")[: depth + 1]) for depth in range(path.count("/") + 1)]
    included = True
    for line in _read(".dockerignore").splitlines():
        if line and not line.startswith("#") and any(_matches(line.removeprefix("!"), part) for part in parents):
            included = line.startswith("!")
    return included


def _matches(pattern: str, path: str) -> bool:
    if pattern.startswith("**/"):
        return fnmatch(path.rpartition("/")[2], pattern[3:])
    return path.count("/") == pattern.count("/") and fnmatch(path, pattern)


# --- docker-compose.yml ----------------------------------------------------------------------------------------------


def test_services_and_image_run_the_commands_of_the_procfile() -> None:
    for service, process in PROCESSES.items():
        assert _service(service)["command"] == _procfile()[process]
    [command] = _arguments("CMD")
    assert json.loads(command) == shlex.split(_procfile()["web"])


def test_every_variable_has_a_default() -> None:
    code = re.sub(r"(^|\s)#.*", "", _read("docker-compose.yml"))
    assert "$" in code
    assert "$" not in VARIABLE.sub("", code).replace("$$", "")


def test_a_service_gets_exactly_the_variables_of_the_settings() -> None:
    for service in GATEWAY:
        assert set(_environment(service)) - READ_BY_GUNICORN == set(settings.env.names) - FIXED_IN_THE_IMAGE


def test_values_from_dotenv_reach_the_service() -> None:
    given = {name: f"given-{name}" for name in settings.env.names}
    environment = _environment("worker", **given)
    assert all(value.endswith(f"given-{name}") for name, value in environment.items() if name not in READ_BY_GUNICORN)
    # The hosts of the containers stay allowed.
    assert environment["ALLOWED_HOSTS"] == "localhost,127.0.0.1,[::1],api,given-ALLOWED_HOSTS"


def test_defaults_are_the_documented_ones() -> None:
    documented = dict(re.findall(r"^# ([A-Z_]+)=(.*)$", _read("config/env.example"), re.MULTILINE))
    given = {name: value for name, value in _environment("api").items() if value and name not in DIFFERENT_IN_DOCKER}
    assert given == {name: documented[name] for name in given}


def test_only_the_api_is_published_and_ports_can_be_changed_as_documented() -> None:
    def ports(**dotenv: str) -> dict[str, list[str]]:
        services = _compose(**dotenv)["services"]
        return {name: service["ports"] for name, service in services.items() if "ports" in service}

    assert ports() == {
        "api": ["0.0.0.0:8080:8080"],
        "postgres": ["127.0.0.1:5432:5432"],
        "redis": ["127.0.0.1:6379:6379"],
    }
    dotenv = {"API_HOST": "127.0.0.1", "API_PORT": "9090", "POSTGRES_PORT": "5433", "REDIS_PORT": "6380"}
    assert ports(**dotenv) == {
        "api": ["127.0.0.1:9090:8080"],
        "postgres": ["127.0.0.1:5433:5432"],
        "redis": ["127.0.0.1:6380:6379"],
    }
    assert all(f"`{name}`" in _read("DOCKER.md") for name in dotenv)


def test_the_dependencies_are_those_of_the_settings() -> None:
    dotenv = {"DB_USER": "someone", "DB_PASSWORD": "something", "DB_NAME": "somewhere"}
    environment, services = _environment("worker", **dotenv), _compose()["services"]
    assert _environment("postgres", **dotenv) == {
        "POSTGRES_USER": environment["DB_USER"],
        "POSTGRES_PASSWORD": environment["DB_PASSWORD"],
        "POSTGRES_DB": environment["DB_NAME"],
    }
    assert environment["DB_HOST"] == "postgres"
    assert environment["REDIS_URL"] == "redis://redis:6379/0"
    assert environment["CUSTOMER_API_URL"] == "http://customer:8081/"
    assert services["customer"]["command"] == "python manage.py fake_customer_api --host 0.0.0.0 --port 8081"


def test_redis_is_persistent_and_never_evicts() -> None:
    command = shlex.split(_service("redis")["command"])
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options == {"--appendonly": "yes", "--appendfsync": "everysec", "--maxmemory-policy": "noeviction"}


def test_services_start_in_order_and_restart() -> None:
    services = _compose()["services"]
    assert all("test" in services[name]["healthcheck"] for name in ("postgres", "redis"))
    assert services["migrate"]["command"] == "python manage.py migrate"
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    for name in PROCESSES:
        assert services[name]["depends_on"] == {
            "migrate": {"condition": "service_completed_successfully"},
            "redis": {"condition": "service_healthy"},
        }
    assert {name for name in services if services[name]["restart"] != "unless-stopped"} == {"migrate"}
    assert {name for name in GATEWAY if services[name].get("healthcheck") != {"disable": True}} == {"api"}
    assert {name for name in services if "profiles" in services[name]} == {"customer"}
    assert not {"deploy", "scale"} & set(services["beat"])  # beat runs once


def test_data_is_in_named_volumes() -> None:
    [var_dir] = re.findall(r"VAR_DIR=(\S+)", " ".join(_arguments("ENV")))
    assert all(_service(name)["volumes"] == [f"var:{var_dir}"] for name in GATEWAY)

    compose = _compose()
    mounted = {mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])}
    assert mounted == set(compose["volumes"]) == {"postgres-data", "redis-data", "var"}


def test_a_container_has_no_privileges_and_limited_logs() -> None:
    for name in GATEWAY:
        service = _service(name)
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert (service["build"], "image" in service) == (".", False)
    assert all("max-size" in service["logging"]["options"] for service in _compose()["services"].values())
    words = [word for word, _ in _final_stage()]
    assert _arguments("USER") == ["gateway"]
    assert max(number for number, word in enumerate(words) if word == "RUN") < words.index("USER")


def test_processes_have_time_to_finish() -> None:
    delivery = parse_duration(_environment("worker")["CUSTOMER_API_TIMEOUT"])
    [graceful] = re.findall(r"^graceful_timeout = (\d+)", _read("leadgateway/server/config.py"), re.MULTILINE)
    assert parse_duration(_service("worker")["stop_grace_period"]) >= delivery + timedelta(seconds=5)
    assert parse_duration(_service("api")["stop_grace_period"]) >= timedelta(seconds=int(graceful) + 5)


# --- Dockerfile and .dockerignore ------------------------------------------------------------------------------------


def test_both_stages_use_the_same_python() -> None:
    assert len({rest.split()[0] for word, rest in _instructions() if word == "FROM"}) == 1


def test_the_image_contains_only_what_runs() -> None:
    packages = {"config", "delivery", "leadgateway", "leads", "stats"}
    assert set(_copied()) == packages | {"manage.py", "Procfile", "requirements.txt"}
    assert {f"{name} {name}" for name in packages} <= set(_arguments("COPY"))
    runs = " ".join(_arguments("RUN"))
    assert re.findall(r"apt-get install ([^&]*?) +&", runs) == ["--yes --no-install-recommends iputils-ping"]
    assert not re.search(r"\b(pip|gcc|curl|wget|make)\b", runs)


def test_the_build_context_contains_the_service_and_no_private_files() -> None:
    examples = ["leads/webhook/view.py", "leads/static/leads/admin.css", "config/env.example"]
    private = [
        *(".env", ".env.production", "config/.env", "var/secret_key", "var/lead_gateway.sqlite3"),
        *(".venv/bin/python", ".git/config", "tests/conftest.py", "leads/__pycache__/views.cpython-311.pyc"),
        *("lead_gateway.dump", "secrets/customer_api_token", "docker-compose.override.yml"),
    ]
    assert all(map(_in_build_context, [*_copied(), *examples]))
    assert not any(map(_in_build_context, private))


# --- HEALTHCHECK -----------------------------------------------------------------------------------------------------


def _check_health(port: int, **environment: str) -> int:
    """Run the health check of the image against a port and return its exit code."""
    [instruction] = _arguments("HEALTHCHECK")
    program, *arguments = json.loads(instruction.partition("CMD ")[2])
    assert program == "python"
    command, env = [sys.executable, *arguments], {"API_PORT": str(port), **environment}
    return subprocess.run(command, env=env, capture_output=True, check=False, timeout=30).returncode


@contextmanager
def _server(status: int, *, pause: float = 0) -> Iterator[int]:
    """Respond with a status to GET /health, and with 503 to other paths; yield the port."""
    stopping = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stopping.wait(pause)
            self.send_response(status if self.path == "/health" else 503)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Log nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            stopping.set()
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "pause", "exit_code"), [(200, 0, 0), (400, 0, 0), (503, 0, 1), pytest.param(200, 60, 1, id="hangs")]
)
def test_an_api_is_healthy_unless_it_responds_with_a_server_error(status: int, pause: float, exit_code: int) -> None:
    with _server(status, pause=pause) as port:
        assert _check_health(port, http_proxy=f"http://127.0.0.1:{free_port()}") == exit_code  # which is not used


def test_an_api_that_is_not_running_is_unhealthy() -> None:
    assert _check_health(free_port()) == 1


# --- DOCKER.md -------------------------------------------------------------------------------------------------------


def _commands() -> list[list[str]]:
    """Return the arguments of every docker compose command in the guide."""
    found = re.findall(r"docker[ -]compose ([^\n`#|<>]*)", _read("DOCKER.md"))
    return [shlex.split(words, posix=False) for words in found]


def test_the_services_and_commands_of_the_guide_exist() -> None:
    services = set(_compose()["services"])
    named = [words for words in _commands() if words and words[0] in ("exec", "logs", "stop", "run", "ps")]
    assert len(named) > 20
    for words in named:
        arguments = [word for word in words[1:] if not word.startswith("-")]
        used = arguments[:1] if words[0] in ("exec", "run") else arguments
        assert set(used) <= services, words

    called = set(re.findall(r"manage\.py ([a-z_]+)", _read("DOCKER.md")))
    assert {"createsuperuser", "doctor", "redeliver", "send_test_lead"} <= called <= set(get_commands())


def test_the_guide_has_the_commands_of_the_specification() -> None:
    specified = [
        "exec postgres psql -U postgres -d lead_gateway",
        "exec postgres pg_isready -U postgres",
        "exec redis redis-cli",
        "exec api ping postgres",
        "ps postgres",
        "logs worker",
    ]
    assert all(command.split() in _commands() for command in specified)


# --- running the image -----------------------------------------------------------------------------------------------


class Image:
    """The final stage in a folder: the files that it copies, and a Python with the packages of requirements.txt."""

    def __init__(self) -> None:
        self.path = scratch_directory("image")
        self.app = self.path / "app"
        self.var_dir = self.path / "var"
        self.log = self.path / "log"
        self.var_dir.mkdir()
        self.app.mkdir()
        for source in _copied():
            if (ROOT / source).is_dir():
                copytree(ROOT / source, self.app / source, ignore=ignore_patterns("__pycache__", ".*"))
            else:
                copy(ROOT / source, self.app)
        self._install()

    def process(self, command: str, **environment: str) -> Process:
        """Return a process with a command and the environment of a service."""
        program, *arguments = shlex.split(command)
        return Process(
            [str(self.path / "venv" / "bin" / program), *arguments],
            env={"PATH": f"{self.path}/venv/bin:/usr/bin:/bin", "VAR_DIR": str(self.var_dir), **environment},
            cwd=self.app,
            log=self.log,
        )

    def _install(self) -> None:
        """Create a virtual environment with links to the installed packages, but only to those of requirements.txt."""
        venv.create(self.path / "venv", symlinks=True)
        programs = self.path / "venv" / "bin"
        [site_packages] = (self.path / "venv" / "lib").glob("python*/site-packages")
        for file in (file for distribution in _required() for file in distribution.files or []):
            top = file.parts[0]
            if "bin" in file.parts and top == "..":
                program = programs / file.name
                program.write_text(re.sub(r"^#!.*", f"#!{programs}/python", file.read_text(), count=1))
                program.chmod(0o755)
            elif top not in ("..", "__pycache__") and not (site_packages / top).exists():
                (site_packages / top).symlink_to(str(file.locate()).removesuffix(str(file)) + top)


def _required() -> list[metadata.Distribution]:
    """Return the installed distributions that `pip install -r requirements.txt` installs."""
    lines = (line.partition("#")[0].strip() for line in _read("requirements.txt").splitlines())
    waiting = [(Requirement(line), "") for line in lines if line]
    seen: dict[tuple[str, str], metadata.Distribution] = {}
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        for wanted in ("", *requirement.extras):
            if (requirement.name, wanted) not in seen:
                found = metadata.distribution(requirement.name)
                seen[requirement.name, wanted] = found
                waiting += [(Requirement(line), wanted) for line in found.requires or []]
    return list({found.name: found for found in seen.values()}.values())


def _run(process: Process) -> int | None:
    process.start()
    wait_until(lambda: not process.is_running, 60, f"the end of {process.command}")
    return process.exit_code


@pytest.mark.e2e
def test_the_services_start_from_the_image_and_accept_a_lead(postgres: PostgresServer, redis: RedisServer) -> None:
    image = Image()
    importer = "import sys, importlib.util as u; sys.exit(any(map(u.find_spec, ('pytest', 'yaml', 'tests', 'pip'))))"
    assert _run(image.process(f"python -c {shlex.quote(importer)}")) == 0

    postgres.create_database("docker")
    dotenv = {name: value for name, value in (postgres.env | redis.env).items() if value} | {"DB_NAME": "docker"}
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    services = {
        name: image.process(_service(name)["command"], **_environment(name, **dotenv), API_PORT=str(port))
        for name in ("migrate", *PROCESSES)
    }

    assert _run(services.pop("migrate")) == 0, image.log.read_text()
    try:
        for service in services.values():
            service.start()
        wait_until(lambda: _check_health(port) == 0, 60, "the api's health", pause=0.5)
        lead = {"phone": "+49123456789", "zipcode": "12345", "house": {"is_owner": True}}
        assert requests.post(f"{url}/webhooks/leads", json=lead, timeout=20).status_code == 200
        counts = f"{url}/stats/leads/counts"
        wait_until(lambda: requests.get(counts, timeout=20).json()["rejected"] == 1, 60, "the worker", pause=0.2)
        assert all(service.is_running for service in services.values())
        assert (image.var_dir / "secret_key").stat().st_mode & 0o077 == 0
    finally:
        for service in services.values():
            service.stop()
        sys.stdout.write(image.log.read_text())  # pytest shows it when the test fails
