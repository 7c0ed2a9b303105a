"""Processes that tests start: signalled with everything they started in turn, and gone when the tests are.

A test run that is killed cannot clean up after itself, so a small reaper process does: this file, run as a program.
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

#: Below the ports that Linux hands to outgoing connections (32768 and up), so that nobody takes the port of a server
#: while it is down, and a client that knocks at it cannot be connected to itself.
_PORTS = range(20_000, 32_700)


def free_port() -> int:
    """Return a TCP port of the loopback that nobody listens on."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait_until(condition: Callable[[], object], timeout: float, what: str, *, pause: float = 0.05) -> None:
    """Wait until calling `condition` returns something true, `timeout` seconds at most.

    :raises TimeoutError: it did not; the message says what was waited for.
    """
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout} s: {what}")
        time.sleep(pause)


# --- what runs -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Running:
    """A line of the process table. `started` tells a process from a later one of the same pid."""

    pid: int
    parent: int
    session: int
    started: int
    is_zombie: bool


def process_table() -> list[Running]:
    """Return every process of the machine, as /proc has it."""
    return [found for entry in Path("/proc").iterdir() if entry.name.isdigit() and (found := _read(int(entry.name)))]


def _read(pid: int) -> Running | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:  # it ended meanwhile
        return None
    fields = stat[stat.rindex(")") + 2 :].split()  # the name before may hold anything
    return Running(pid, int(fields[1]), int(fields[3]), int(fields[19]), fields[0] in "ZX")


def family(pid: int) -> list[int]:
    """Return the live processes of the session that `pid` leads and all descendants, parents first.

    Some daemons give each child a session of its own, others leave children behind: neither rule alone finds all.
    """
    table = [process for process in process_table() if not process.is_zombie]
    found = [process.pid for process in table if process.pid == pid]
    found += [process.pid for process in table if process.session == pid and process.pid != pid]
    for parent in found:  # grows while it is walked
        found += [process.pid for process in table if process.parent == parent and process.pid not in found]
    return found


def signal_family(pid: int, number: signal.Signals) -> list[int]:
    """Signal `pid` and all that belongs to it; return whom.

    The parent is stopped first, lest it starts a child behind our back.
    """
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGSTOP)
    members = family(pid)
    for member in members:
        with suppress(ProcessLookupError):
            os.kill(member, number)
    return members


def is_alive(pid: int) -> bool:
    """Tell whether a process runs, or is stopped; a zombie is dead."""
    found = _read(pid)
    return found is not None and not found.is_zombie


# --- one process -----------------------------------------------------------------------------------------------------


class Process:
    """A command that runs in a session of its own, with its output in a file.

    :param user: whom to run as, when the tests run as root.
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
        """What it ended with, negative for a signal; None while it runs."""
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
        """Ask the process itself to end; kill it with all that belongs to it when it does not in time."""
        if self._popen is None:
            return
        if self.is_running:
            self.thaw()
            os.kill(self.pid, number)
            with suppress(subprocess.TimeoutExpired):
                self._popen.wait(timeout)
        self.kill()

    def kill(self) -> None:
        """End the process and all that belongs to it at once, with SIGKILL."""
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
        wait_until(lambda: not any(map(is_alive, members)), 10, f"the end of {self.command[0]}", pause=0.01)
        reaper().forget(self.pid)
        _started.discard(self)
        self._popen = None

    def freeze(self) -> None:
        """Stop the process and all that belongs to it: it holds its sockets and answers nothing."""
        signal_family(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Undo `freeze`; nothing happens when it does not run."""
        for member in reversed(family(self.pid) if self.is_running else []):
            with suppress(ProcessLookupError):
                os.kill(member, signal.SIGCONT)

    def wait(self, timeout: float = 60) -> int:
        """Wait until it ends by itself, and return its exit code."""
        assert self._popen is not None, "not started"
        code = self._popen.wait(timeout)
        self.kill()
        return code

    def output(self) -> str:
        """Return what it wrote so far, over all its starts."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""


_started: set[Process] = set()


def _group_of(user: str) -> int:
    import pwd

    return pwd.getpwnam(user).pw_gid


# --- the end of all of them ------------------------------------------------------------------------------------------


class Reaper:
    """Ends the watched processes and removes the scratch directory as soon as this process is gone, however it went."""

    def __init__(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="lead-gateway-tests-"))
        self.scratch.chmod(0o755)  # a server that runs as another user has its directory inside
        self._popen = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self.scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,  # a pipe of the tests would stay open
            start_new_session=True,  # Ctrl-C is for the tests, not for who cleans up after them
        )

    def watch(self, pid: int) -> None:
        found = _read(pid)
        self._tell(f"watch {pid} {found.started if found else 0}")

    def forget(self, pid: int) -> None:
        self._tell(f"forget {pid} 0")

    def finish(self) -> None:
        """End everything now, and wait for it."""
        assert self._popen.stdin is not None
        self._popen.stdin.close()
        self._popen.wait(30)

    def _tell(self, line: str) -> None:
        assert self._popen.stdin is not None
        self._popen.stdin.write(f"{line}\n".encode())
        self._popen.stdin.flush()


@cache
def reaper() -> Reaper:
    """Return the reaper of this process; started on first use."""
    return Reaper()


def scratch_directory(name: str) -> Path:
    """Return a new directory that is gone when the tests are. Its path is short: sockets allow a hundred bytes."""
    return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=reaper().scratch))


def finish() -> None:
    """End what is left and remove the scratch directories; for the end of a session."""
    for process in list(_started):
        process.kill()
    if reaper.cache_info().currsize:
        reaper().finish()
        reaper.cache_clear()


def _watch_over(orders: Iterator[str]) -> None:
    watched: dict[int, int] = {}
    for order in orders:  # ends when the tests do: nobody else holds the other end of the pipe
        what, pid, started = order.split()
        if what == "watch":
            watched[int(pid)] = int(started)
        else:
            watched.pop(int(pid), None)
    for leader, start in watched.items():
        found = _read(leader)
        if found is None or found.started == start:
            signal_family(leader, signal.SIGKILL)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _watch_over(iter(sys.stdin.readline, ""))
    time.sleep(0.2)
    shutil.rmtree(sys.argv[1], ignore_errors=True)
