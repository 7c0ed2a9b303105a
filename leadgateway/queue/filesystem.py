"""Doorbells as files, for QUEUE_TYPE=database: kombu's filesystem transport, made safe for several processes.

kombu's own writes a message in place, so that a reader may take it half written, on which Celery's worker ends; and it
reads its table of bindings while another process writes it. Here a message appears and disappears as a whole, by a
rename inside one file system, and the bindings are those of the settings.
"""

import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from queue import Empty
from typing import Any

from kombu.transport import filesystem
from kombu.utils.json import dumps, loads

#: The ending of a file that is not a message yet, or not any more.
_PRIVATE = ".private"


class Channel(filesystem.Channel):
    """One process's way to the folder that is transport option `data_folder_in`.

    Transport option `bindings` lists the queues; each is bound by its own name.
    """

    @property
    def _folder(self) -> Path:
        return Path(self.data_folder_in)

    def get_table(self, exchange: str) -> list[filesystem.exchange_queue_t]:  # type: ignore[override]
        """Return the binding of every queue."""
        return [filesystem.exchange_queue_t(queue, "", queue) for queue in self.transport_options["bindings"]]

    def _queue_bind(self, *_: Any) -> None:
        """Do nothing: the bindings are in the settings."""

    def _put(self, queue: str, message: Any, **_: Any) -> None:  # type: ignore[override]
        # In order of arrival: the wall clock is the one that all processes, and the next boot, share.
        name = f"{time.time_ns():020}_{uuid.uuid4().hex}"
        unfinished = self._folder / f"{name}{_PRIVATE}"
        unfinished.write_text(dumps(message))
        unfinished.replace(self._folder / f"{name}.{queue}.msg")

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for name in sorted(entry for entry in os.listdir(self._folder) if entry.endswith(f".{queue}.msg")):
            with suppress(FileNotFoundError):  # another worker was faster
                return loads(self._take(name))
        raise Empty

    def _take(self, name: str) -> str:
        """Take a message out of everybody's sight, then read it. A worker that dies in between loses it: a doorbell."""
        taken = self._folder / f"{name}{_PRIVATE}"
        (self._folder / name).replace(taken)
        text = taken.read_text()
        taken.unlink()
        return text


class Transport(filesystem.Transport):
    """What `doorbells://` in a broker URL stands for."""

    Channel = Channel
