"""Several processes in the foreground as one: they start together, speak through one terminal and stop together."""

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from types import FrameType
from typing import IO

from honcho.manager import SYSTEM_PRINTER_NAME, Manager
from honcho.printer import Message

#: The terminal was closed, Ctrl-C, and what a supervisor or `kill` sends.
STOP_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

_NOT_HEARD_OF_YET_S = 0.1


class Printer:
    """Writes each line behind the name of the process that said it; announcements of our own stand alone."""

    width = 0

    def __init__(self, output: IO[str]) -> None:
        self._output = output
        self._in_colour = output.isatty()
        self._closed = False

    def write(self, message: Message) -> None:
        """Print a message of honcho's; its own, about process ids and signals, are left out."""
        if message.name == SYSTEM_PRINTER_NAME:
            return
        data = message.data
        for line in (data.decode(errors="replace") if isinstance(data, bytes) else data).splitlines():
            if line.strip() or message.name is None:
                self._print(self._prefix(message) + line)

    def announce(self, text: str) -> None:
        """Print lines without a name in front."""
        self._print(text)

    def _prefix(self, message: Message) -> str:
        if message.name is None:
            return ""
        prefix = f"{message.name.ljust(self.width)} | "
        return f"\033[{message.colour}m{prefix}\033[0m" if self._in_colour and message.colour else prefix

    def _print(self, line: str) -> None:
        if self._closed:
            return
        try:
            print(line, file=self._output, flush=True)
        except OSError:  # the terminal or the pipe is gone, and with it whoever wanted this to run
            self._closed = True
            os.kill(os.getpid(), signal.SIGTERM)


class Foreground(Manager):
    """honcho's manager, which also minds the terminal's end, lets deliveries under way finish, and knows who died.

    The first stop signal asks every process to stop, the second makes them.
    """

    def __init__(self, printer: Printer, *, timeout: timedelta, when_started: Callable[[], None]) -> None:
        """Prepare to run what `add_process` is given.

        :param patience: how long the processes may take to stop before they are killed.
        :param when_started: called in a thread of its own, once every process was started.
        """
        super().__init__(printer)
        self._printer.width = 0  # honcho has made room for its own name
        self._patience = timeout.total_seconds()
        self._kill_after = float("inf")
        self._when_started = when_started
        self.ordered = False
        self.died: tuple[str, int] | None = None

    def terminate(self) -> None:
        """Ask every process to stop; note which one has stopped unasked, if that is why."""
        if not self._all_started():
            # honcho does not know the process id yet.
            threading.Timer(_NOT_HEARD_OF_YET_S, self.terminate).start()
            return
        if not self._terminating:
            self._kill_after = time.monotonic() + self._patience
            self.died = None if self.ordered else self._first_stopped()
            self._printer.announce(_farewell(self.died))
        super().terminate()

    def kill(self) -> None:
        """Kill what still runs when patience has run out; honcho asks for it from five seconds on."""
        if time.monotonic() > self._kill_after:
            super().kill()

    def _start(self) -> None:
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_stop_signal)
        super()._start()
        # Not before: the processes are forked, and a thread does not survive that.
        threading.Thread(target=self._when_started, daemon=True).start()

    def _on_stop_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self.ordered:
            self._kill_after = 0
            self.kill()
        self.ordered = True
        self.terminate()

    def _first_stopped(self) -> tuple[str, int] | None:
        codes = ((name, process.get("returncode")) for name, process in self._processes.items())
        return next(((name, code) for name, code in codes if code is not None), None)


def _farewell(died: tuple[str, int] | None) -> str:
    if died is None:
        return "\nStopping; what is under way is finished first. Ctrl-C again to stop at once."
    name, code = died
    how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
    return f"\n{name} {how}; stopping the others. Its last lines above say why."


def port_problem(host: str, port: int) -> str | None:
    """Say why nobody could listen at host and port; None when one can."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[
            0
        ]
        with closing(socket.socket(family, kind)) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        return str(error.strerror or error).lower()
    return None


def free_port(host: str, preferred: int) -> int:
    """Return `preferred` if it is free, else a free port."""
    if port_problem(host, preferred) is None:
        return preferred
    with closing(socket.socket()) as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
