"""Processes that tests start. A signal reaches their descendants too, and all of them end with the tests.

A killed test run cannot clean up, so a reaper process does. The reaper is this file, run as a program.
"""

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

#: Below the ports of outgoing connections (32768 and up on Linux). No connection takes the port of a stopped server,
#: and a client that connects to it is not connected to itself.
_PORTS = range(20_000, 32_700)


def free_port() -> int:
    """Return a free TCP port of the loopback."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], object], timeout: float, what: str, *, pause: float = 0.05) -> None:
    """Wait up to `timeout` seconds until `condition()` is true, checking every `pause` seconds.

    :raises TimeoutError: It did not become true. The message contains `what`.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(pause)


# --- the process table ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProcessEntry:
    """An entry of the process table. `started` distinguishes a process from a later one with the same pid."""

    pid: int
    parent: int
    session: int
    started: int
    is_zombie: bool


def process_table() -> list[ProcessEntry]:
    """Return every process of the machine from /proc."""
    return [found for entry in Path("/proc").iterdir() if entry.name.isdigit() and (found := _read(int(entry.name)))]


def _read(pid: int) -> ProcessEntry | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # the process has ended
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before it may contain any character
    return ProcessEntry(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in "ZX")


def family(pid: int) -> list[int]:
    """Return the running processes of the session that `pid` leads and their descendants, parents first.

    Both rules are needed: some daemons start a session for each child, and some children outlive their parent.
    """
    table = [process for process in process_table() if not process.is_zombie]
    found = [process.pid for process in table if process.pid == pid]
    found += [process.pid for process in table if process.session == pid and process.pid != pid]
    for parent in found:  # the loop appends to the list
        found += [process.pid for process in table if process.parent == parent and process.pid not in found]
    return found


def signal_family(pid: int, number: signal.Signals) -> list[int]:
    """Send a signal to `pid` and its family, and return their pids.

    Stop the parent first, so that it cannot start another child.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    members = family(pid)
    for member in members:
        with suppress(ProcessLookupError):
            os.kill(member, number)
    return members


def exists(pid: int) -> bool:
    """Return whether a process runs or is stopped. A zombie does not exist."""
    found = _read(pid)
    return found is not None and not found.is_zombie


# --- one process -----------------------------------------------------------------------------------------------------


class Process:
    """A command that runs in a session of its own and writes its output to a file.

    :param user: Account to run as, when the tests run as root.
    """

    def __init__(
        self, command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path, user: str | None = None
    ) -> None:
        self.command = list(command)
        self.env = dict(env)
        self.cwd = cwd
        self.log = log
        self.user = user
        self._popen: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._popen is not None, "not started"
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Return the exit code, negative for a signal, None while the process runs."""
        return None if self._popen is None else self._popen.poll()

    def start(self) -> None:
        assert self._popen is None, f"already started: {self.command[0]}"
        account = {} if self.user is None else {"user": self.user, "group": _group_of(self.user), "extra_groups": []}
        with self.log.open("ab") as output:
            self._popen = subprocess.Popen(
                self.command,
                env=self.env,
                cwd=self.cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **account,  # type: ignore[call-overload]
            )
        reaper().watch(self.pid)
        _started.add(self)

    def stop(self, number: signal.Signals = signal.SIGTERM, timeout: float = 15) -> None:
        """Send a signal to the process alone, and kill its family after `timeout` seconds."""
        if self._popen is None:
            return
        if self.is_running:
            self.thaw()
            os.kill(self.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """Kill the process and its family with SIGKILL."""
        if self._popen is None:
            return
        if self.is_running:
            members = signal_family(self.pid, signal.SIGKILL)
        else:
            members = [member for member in family(self.pid) if member != self.pid]
            for member in members:
                with suppress(ProcessLookupError):
                    os.kill(member, signal.SIGKILL)
        self._popen.wait(10)
        wait_until(lambda: not any(map(exists, members)), 10, f"the end of {self.command[0]}", pause=0.01)
        reaper().forget(self.pid)
        _started.discard(self)
        self._popen = None

    def freeze(self) -> None:
        """Stop the process and its family. It keeps its sockets open and does not respond."""
        signal_family(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`. Do nothing when the process does not run."""
        for member in reversed(family(self.pid) if self.is_running else []):
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGCONT)

    def wait(self, timeout: float = 60) -> int:
        """Wait until the process exits and return its exit code."""
        assert self._popen is not None, "not started"
        code = self._popen.wait(timeout)
        self.kill()
        return code

    def output(self) -> str:
        """Return the output so far of all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


_started: set[Process] = set()


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


# --- the end of all of them ------------------------------------------------------------------------------------------


class Reaper:
    """Kill the watched processes and remove the scratch directory when this process has ended in any way."""

    def __init__(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="lead-gateway-tests-"))
        self.scratch.chmod(0o755)  # servers that run as another user have their directories inside
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self.scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # an inherited pipe would stay open
            start_new_session=True,  # Ctrl-C must not reach the reaper
        )

    def watch(self, pid: int) -> None:
        found = _read(pid)
        self._send(f"watch {pid} {found.started if found else 0}")

    def forget(self, pid: int) -> None:
        self._send(f"forget {pid} 0")

    def finish(self) -> None:
        """Clean up now, and wait until the reaper has ended."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait(30)

    def _send(self, line: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n".encode())
        self._popen.stdin.flush()


@cache
def reaper() -> Reaper:
    """Return the reaper of this process. The first call starts it."""
    return Reaper()


def scratch_directory(name: str) -> Path:
    """Create a directory that is removed after the tests. Its path is short: socket paths allow a hundred bytes."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=reaper().scratch))


def finish() -> None:
    """Kill the remaining processes and remove the scratch directories. Call this at the end of a session."""
    for process in list(_started):
        process.kill()
    if reaper.cache_info().currsize:
        reaper().finish()
        reaper.cache_clear()


def _reap(commands: Iterator[str]) -> None:
    watched: dict[int, int] = {}
    for line in commands:  # ends with the tests, which alone hold the other end of the pipe
        command, pid, started = line.split()
        if command == "watch":
            watched[int(pid)] = int(started)
        else:
            watched.pop(int(pid), None)
    for leader, start in watched.items():
        found = _read(leader)
        if found is None or found.started == start:
            signal_family(leader, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _reap(iter(sys.stdin.readline, ""))
    time.sleep(0.2)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
