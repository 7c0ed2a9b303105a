"""A Celery broker in a directory, for QUEUE_TYPE=database: kombu's filesystem transport, safe for several processes.

kombu's own transport writes a message in place, so that a reader can see half of it, on which Celery's worker exits. It
also reads its table of bindings while another process writes it. Here, a message appears and disappears by a rename
within one file system, and the bindings come from the settings.

Every private name of kombu that the project overrides is in this module; a test pins them.
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

#: The suffix of a message that is being written or read.
_IN_PROGRESS = ".tmp"


class Channel(filesystem.Channel):
    """A channel on the directory that is transport option `data_folder_in`.

    Transport option `bindings` lists the queues; the routing key of each is its name.
    """

    @property
    def _directory(self) -> Path:
        return Path(self.data_folder_in)

    def get_table(self, exchange: str) -> list[filesystem.exchange_queue_t]:  # type: ignore[override]
        """Return the binding of every queue."""
        return [filesystem.exchange_queue_t(queue, "", queue) for queue in self.transport_options["bindings"]]

    def _queue_bind(self, *_: object) -> None:
        """Do nothing, because the bindings are in the settings."""

    def _put(self, queue: str, message: dict[str, Any], **_: object) -> None:  # type: ignore[override]
        # Messages are read in order of their names. Processes share the wall clock, also across reboots.
        name = f"{time.time_ns():020}_{uuid.uuid4().hex}"
        unfinished = self._directory / f"{name}{_IN_PROGRESS}"
        unfinished.write_text(dumps(message))
        unfinished.replace(self._directory / f"{name}.{queue}.msg")

    def _get(self, queue: str, timeout: float | None = None) -> Any:
        for name in sorted(entry for entry in os.listdir(self._directory) if entry.endswith(f".{queue}.msg")):
            with suppress(FileNotFoundError):  # another worker took it
                return loads(self._take(name))
        raise Empty

    def _take(self, name: str) -> str:
        """Rename a message so that no other worker reads it, then read and delete it.

        A worker that dies in between loses the message. The sweep enqueues the lead again.
        """
        taken = self._directory / f"{name}{_IN_PROGRESS}"
        (self._directory / name).replace(taken)
        text = taken.read_text()
        taken.unlink()
        return text


class Transport(filesystem.Transport):
    """The transport of `files://` broker URLs."""

    Channel = Channel
