"""What a disk may hold after a power cut, given what programs did to it.

What a sync has covered is there. Of the rest each sector of 512 bytes may be there or not, in any order; a file may
have been made longer without its content. The names in a directory change in order, and are certain once the directory
was synced.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from .recording import Event

SECTOR: Final = 512

Image = dict[str, bytes]
"""The files that are there after the cut, by name."""


@dataclass(slots=True)
class _File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list[tuple[int, Event]] = field(default_factory=list)
    """Writes and truncates that no sync has covered, each with its place in the order."""
    length: int = 0


class Disk:
    """Takes events one by one, and tells at each moment what a cut might leave."""

    def __init__(self, content: Image | None = None) -> None:
        self._names: dict[str, _File] = {
            name: _File(bytearray(data), [], len(data)) for name, data in (content or {}).items()
        }
        self._durable_names = dict(self._names)
        self._pending_names: list[tuple[str, _File | None]] = []
        self._number = 0

    def apply(self, event: Event) -> None:
        """Let it happen."""
        match event.kind:
            case "create":
                self._create(event.name)
            case "unlink":
                self._names.pop(event.name, None)
                self._pending_names.append((event.name, None))
            case "sync" if event.name == ".":
                self._durable_names = dict(self._names)
                self._pending_names = []
            case "sync":
                self._sync(event)
            case _:
                self._change(event)
        self._number += 1

    def _create(self, name: str) -> None:
        if name not in self._names:
            self._names[name] = _File()
            self._pending_names.append((name, self._names[name]))

    def _sync(self, event: Event) -> None:
        file = self._names.get(event.name)
        if file is None:  # it was unlinked meanwhile
            return
        for number, change in file.pending:
            if number < event.begun:
                _apply_whole(file.durable, change)
        file.pending = [(number, change) for number, change in file.pending if number >= event.begun]

    def _change(self, event: Event) -> None:
        self._create(event.name)
        file = self._names[event.name]
        if event.kind == "append":
            event = Event("write", event.name, file.length, event.data)
        file.length = event.size if event.kind == "truncate" else max(file.length, event.offset + len(event.data))
        file.pending.append((self._number, event))

    @property
    def is_calm(self) -> bool:
        """Whether a cut at this moment can leave only one image."""
        return not self._pending_names and not any(file.pending for file in self._durable_names.values())

    def without_pending(self) -> Image:
        """Nothing that was not synced has arrived."""
        return {name: bytes(file.durable) for name, file in self._durable_names.items()}

    def with_all(self) -> Image:
        """Everything has arrived: what a killed process leaves."""
        return {name: _content(file, [change for _, change in file.pending]) for name, file in self._names.items()}

    def cuts(self, chance: random.Random, torn: int) -> Iterator[Image]:
        """Yield what a cut at this moment might leave: nothing more, everything, and so many torn images."""
        yield self.without_pending()
        if not self.is_calm:
            yield self.with_all()
            for _ in range(torn):
                yield self._torn(chance)

    def _torn(self, chance: random.Random) -> Image:
        names = dict(self._durable_names)
        for name, file in self._pending_names[: chance.randint(0, len(self._pending_names))]:
            if file is None:
                names.pop(name, None)
            else:
                names[name] = file
        likely = chance.choice((0.1, 0.5, 0.9))
        return {name: _content(file, list(_arrived(file, chance, likely))) for name, file in names.items()}


def _arrived(file: _File, chance: random.Random, likely: float) -> Iterator[Event]:
    """Yield parts of the pending changes; shuffled sometimes, where they do not depend on each other."""
    tears = chance.random() < 0.5
    arrived: list[Event] = []
    for _, change in file.pending:
        if change.kind == "truncate" or not tears:
            if chance.random() < likely:
                arrived.append(change)
            continue
        arrived += [sector for sector in _sectors(change) if chance.random() < likely]
    if chance.random() < 0.3:
        chance.shuffle(arrived)
    yield from arrived


def _sectors(write: Event) -> Iterator[Event]:
    start = write.offset
    end = write.offset + len(write.data)
    while start < end:
        stop = min(end, start - start % SECTOR + SECTOR)
        yield Event("write", write.name, start, write.data[start - write.offset : stop - write.offset])
        start = stop


def _content(file: _File, changes: list[Event]) -> bytes:
    if not changes:
        return bytes(file.durable)
    content = bytearray(file.durable)
    for change in changes:
        _apply_whole(content, change)
    return bytes(content)


def _apply_whole(content: bytearray, change: Event) -> None:
    if change.kind == "truncate":
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
        return
    end = change.offset + len(change.data)
    if len(content) < end:
        content.extend(bytes(end - len(content)))
    content[change.offset : end] = change.data
