"""A worker process: takes pieces of work from a socket, one after the other, until it is closed.

It lives no longer than the process that started it: the kernel closes the socket when that ends, however it ends.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import Any

from calig.engines.work import Message, Settings, Worker, failure


def main() -> None:
    """Work for the process at the other end of the socket whose descriptor the command line gives."""
    connection = Connection(int(sys.argv[1]))
    guard = threading.Lock()

    def tell(message: Message) -> None:
        with guard:
            connection.send(message)

    settings: Settings = connection.recv()
    settings.apply(tell)
    waiting: SimpleQueue[Any] = SimpleQueue()
    threading.Thread(target=_listen, args=(connection, waiting, tell), daemon=True).start()
    worker = Worker(tell)
    while True:
        worker.perform(*waiting.get())


def _listen(
    connection: Connection[Any, Any], waiting: SimpleQueue[Any], tell: Callable[[Message], None]
) -> None:
    """Take in what is sent; at the end of the socket, end this process, whatever it is at."""
    while True:
        try:
            waiting.put(connection.recv())
        except (EOFError, OSError):
            os._exit(0)
        except Exception as error:  # it cannot be read here
            tell(failure(error))
