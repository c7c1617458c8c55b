"""A TCP proxy in front of a PostgreSQL server, which does to connections what networks and servers do.

It knows just enough of the protocol to tell one request from the next: a request ends where the client waits for an
answer, the answer where the server is ready for the next one. So a fault is not a matter of time: it strikes before a
certain request has reached the server, or after the server has done it and before the client hears of it.
"""

from __future__ import annotations

import os
import re
import selectors
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from enum import Enum
from pathlib import Path
from typing import Final, Self

PATIENCE: Final = 20.0
CONNECT: Final = "<connect>"
"""What a client's first message is called among the requests."""

_SIZE: Final = struct.Struct("!I")
_START: Final = struct.Struct("!II")
_TLS_REQUEST, _GSS_REQUEST, _CANCEL_REQUEST = 80877103, 80877104, 80877102
_QUERY, _PARSE, _BIND, _SYNC = b"Q", b"P", b"B", b"S"
_HELD: Final = frozenset(b"PBDEC")
"""Kept until the request is complete."""
_ENDS_ANSWER: Final = frozenset(b"ZGH")
"""ReadyForQuery; the server wants rows of a COPY, or sends them."""
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Moment(Enum):
    """When a fault strikes."""

    BEFORE = "before the server gets the request"
    AFTER = "after the server has done it, before its answer"


class Effect(Enum):
    """What happens to the connection."""

    RESET = "it is reset"
    SILENCE = "nothing passes any more, and nobody is told"


class Trap:
    """A fault that waits for its request."""

    def __init__(self, request: str, moment: Moment, effect: Effect, skip: int) -> None:
        self._request = re.compile(request)
        self._skip = skip
        self.moment = moment
        self.effect = effect
        self._sprung = threading.Event()

    @property
    def is_sprung(self) -> bool:
        """Whether it has struck; it strikes once."""
        return self._sprung.is_set()

    def wait(self) -> None:
        """Wait until it has struck."""
        if not self._sprung.wait(PATIENCE):
            raise AssertionError(f"no request like {self._request.pattern!r} came within {PATIENCE:g} s")

    def spring(self) -> None:
        """Note that it has struck."""
        self._sprung.set()

    def is_for(self, request: str) -> bool:
        """Whether this is the request that it waits for; counts."""
        if self.is_sprung or not self._request.search(request):
            return False
        self._skip -= 1
        return self._skip < 0


class Proxy:
    """Listens on a port of its own until it is closed; everything is done by one thread.

    `server` is the path of a Unix socket, or host and port. Encryption is declined.
    """

    def __init__(self, server: Path | tuple[str, int]) -> None:
        self._server = server
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[str] = []
        """The texts of all requests that came in, `CONNECT` for new connections."""
        self._delay = 0.0
        self._is_silent = False
        self._is_refusing = False
        self._traps: list[Trap] = []
        self._links: set[_Link] = set()
        self._orders: deque[Callable[[], None]] = deque()
        self._ear, self._mouth = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._ear, selectors.EVENT_READ, self._obey)
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What a test asks for

    def trap(self, request: str, moment: Moment = Moment.AFTER, effect: Effect = Effect.RESET, skip: int = 0) -> Trap:
        """Wait for a request whose text matches the pattern, the first but so many, and strike then."""
        trap = Trap(request, moment, effect, skip)
        self._order(lambda: self._traps.append(trap))
        return trap

    def delay(self, seconds: float) -> None:
        """Keep what the server sends for so long, from now on."""
        self._order(lambda: setattr(self, "_delay", seconds))

    def silence(self) -> None:
        """Let nothing pass, in no direction, and tell nobody; new connections get no answer either."""
        self._order(lambda: self._set_silent(True))

    def speak(self) -> None:
        """Let everything pass again, also what was held back."""
        self._order(lambda: self._set_silent(False))

    def refuse(self, refuses: bool = True) -> None:
        """Reset new connections at once, or no more."""
        self._order(lambda: setattr(self, "_is_refusing", refuses))

    def reset(self) -> None:
        """Reset all connections."""
        self._order(lambda: [link.reset() for link in list(self._links)])

    @property
    def connections(self) -> int:
        """How many connections there are."""
        return len(self._links)

    def close(self) -> None:
        """Reset all connections and end."""
        if not self._is_closed:
            self.reset()
            self._order(lambda: setattr(self, "_is_closed", True))
            self._thread.join(PATIENCE)
            self._selector.close()
            self._listener.close()
            os.close(self._ear)
            os.close(self._mouth)

    # In the proxy's thread

    def _order(self, act: Callable[[], object]) -> None:
        """Let the thread do something, and wait until it has."""
        done: Future[None] = Future()

        def obey() -> None:
            act()
            done.set_result(None)

        self._orders.append(obey)
        os.write(self._mouth, b"!")
        done.result(PATIENCE)

    def _obey(self) -> None:
        os.read(self._ear, 4096)
        while self._orders:
            self._orders.popleft()()

    def _run(self) -> None:
        while not self._is_closed:
            due = [link.due_at for link in self._links if link.due_at is not None]
            timeout = max(0.0, min(due) - time.monotonic()) if due else None
            for key, _ in self._selector.select(timeout):
                key.data()
            for link in list(self._links):
                link.deliver()

    def _set_silent(self, is_silent: bool) -> None:
        self._is_silent = is_silent
        for link in list(self._links):
            link.set_silent(is_silent)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        if self._is_refusing:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            client.close()
            return
        try:
            server = _connected(self._server)
        except OSError:  # the server is down
            client.close()
            return
        self._links.add(_Link(self, client, server, self._is_silent))

    def watch(self, end: socket.socket, act: Callable[[], None]) -> None:
        self._selector.register(end, selectors.EVENT_READ, act)

    def unwatch(self, end: socket.socket) -> None:
        with suppress(KeyError):
            self._selector.unregister(end)

    def forget(self, link: _Link) -> None:
        self._links.discard(link)

    def release_at(self) -> float:
        """When what comes in now is passed on."""
        return time.monotonic() + self._delay

    def trap_for(self, request: str) -> Trap | None:
        """Note a request; return the trap that it springs."""
        self.requests.append(request)
        return next((trap for trap in self._traps if trap.is_for(request)), None)


class _Link:
    """One connection: the client's socket and the server's."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket, is_silent: bool) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._from_client = bytearray()
        self._held = bytearray()
        self._text: list[str] = []
        self._prepared: dict[bytes, str] = {}
        self._is_started = False
        self._answers: deque[tuple[float, bytes]] = deque()
        self._from_server = bytearray()
        self._trap: Trap | None = None
        """The trap that waits for the end of the answer."""
        self._is_silent = True
        self._is_closed = False
        if not is_silent:
            self.set_silent(False)

    @property
    def due_at(self) -> float | None:
        """When the next piece is to be passed on."""
        return self._answers[0][0] if self._answers and not self._is_silent else None

    def set_silent(self, is_silent: bool) -> None:
        """Leave everything unread that comes in, or no more."""
        if is_silent == self._is_silent:
            return
        self._is_silent = is_silent
        for end, act in ((self._client, self._hear_client), (self._server, self._hear_server)):
            if is_silent:
                self._proxy.unwatch(end)
            else:
                self._proxy.watch(end, act)
        if not is_silent:
            self._flush()

    def reset(self) -> None:
        """End both sides at once; the client sees a reset."""
        if self._is_closed:
            return
        self._client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._close()

    def _close(self) -> None:
        if self._is_closed:  # by the other end, a moment before
            return
        self._is_closed = True
        for end in (self._client, self._server):
            self._proxy.unwatch(end)
            end.close()
        self._proxy.forget(self)

    def deliver(self) -> None:
        """Pass on what is due."""
        while (due := self.due_at) is not None and due <= time.monotonic():
            _, piece = self._answers.popleft()
            if not piece:  # the server has closed
                self._close()
                return
            self._send(self._client, piece)

    def _send(self, end: socket.socket, data: bytes | bytearray) -> None:
        try:
            end.sendall(data)
        except OSError:
            self._close()

    def _receive(self, end: socket.socket) -> bytes:
        try:
            return end.recv(1 << 16)
        except OSError:
            return b""

    # From the client

    def _hear_client(self) -> None:
        if self._is_closed:
            return
        data = self._receive(self._client)
        if not data:
            self._close()
            return
        self._from_client += data
        while self._trap is None and (message := self._next_message()) is not None:
            self._take(message)

    def _next_message(self) -> bytes | None:
        """Cut one complete message off what the client has sent."""
        begin = 1 if self._is_started else 0
        if len(self._from_client) < begin + 4:
            return None
        length = begin + _SIZE.unpack_from(self._from_client, begin)[0]
        if len(self._from_client) < length:
            return None
        message = bytes(self._from_client[:length])
        del self._from_client[:length]
        return message

    def _take(self, message: bytes) -> None:
        if not self._is_started:
            self._take_first(message)
            return
        kind = message[:1]
        self._note_text(kind, message[5:])
        self._held += message
        if kind in (_QUERY, _SYNC):
            request, self._text = "; ".join(self._text), []
            self._pass_on(request)
        elif kind[0] not in _HELD:
            self._flush()

    def _take_first(self, message: bytes) -> None:
        _, code = _START.unpack_from(message)
        if code in (_TLS_REQUEST, _GSS_REQUEST):
            self._send(self._client, b"N")
            return
        self._is_started = True
        self._held += message
        if code == _CANCEL_REQUEST:
            self._flush()
        else:
            self._pass_on(CONNECT)

    def _note_text(self, kind: bytes, body: bytes) -> None:
        if kind == _QUERY:
            self._text.append(body.rstrip(b"\0").decode())
        elif kind == _PARSE:
            name, text, _ = body.split(b"\0", 2)
            self._prepared[name] = text.decode()
        elif kind == _BIND:
            _, name, _ = body.split(b"\0", 2)
            self._text.append(self._prepared.get(name, ""))

    def _pass_on(self, request: str) -> None:
        """The request is complete: send it to the server, unless a trap says otherwise."""
        trap = self._proxy.trap_for(request)
        if trap is None:
            self._flush()
        elif trap.moment is Moment.BEFORE:
            self._spring(trap)
        else:
            self._trap = trap
            self._from_server.clear()
            self._flush()

    def _flush(self) -> None:
        self._send(self._server, self._held)
        self._held.clear()

    def _spring(self, trap: Trap) -> None:
        self._trap = None
        if trap.effect is Effect.RESET:
            self.reset()
        else:
            self.set_silent(True)
            if self._from_server:
                self._answers.append((0.0, bytes(self._from_server)))  # for when it may speak again
        trap.spring()

    # From the server

    def _hear_server(self) -> None:
        if self._is_closed:
            return
        data = self._receive(self._server)
        if self._trap is None:
            self._answers.append((self._proxy.release_at(), data))
            if not data:
                self._proxy.unwatch(self._server)
        elif not data:
            self._close()
        else:
            self._from_server += data
            if self._answer_is_complete():
                self._spring(self._trap)

    def _answer_is_complete(self) -> bool:
        place = 0
        while place + 5 <= len(self._from_server):
            kind, length = self._from_server[place], _SIZE.unpack_from(self._from_server, place + 1)[0]
            place += 1 + length
            if kind in _ENDS_ANSWER and place <= len(self._from_server):
                return True
        return False


def _connected(server: Path | tuple[str, int]) -> socket.socket:
    if isinstance(server, tuple):
        return socket.create_connection(server, timeout=PATIENCE)
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(server))
    return connection
