"""What programs do to the disk, recorded with strace: each write, sync, truncate, creation and removal, in order."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HAS_STRACE: Final = shutil.which("strace") is not None

_CALLS: Final = "openat,write,pwrite64,fsync,fdatasync,ftruncate,unlink,unlinkat,rename,renameat,renameat2"
_LINE: Final = re.compile(r"(?P<pid>\d+) +(?P<rest>.*)")
_RESUMED: Final = re.compile(r"<\.\.\. (?P<call>\w+) resumed>(?P<rest>.*)")
_UNFINISHED: Final = " <unfinished ...>"
_CALL: Final = re.compile(r"(?P<call>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+)(?P<more>.*)", re.DOTALL)
_FILE: Final = re.compile(r"\d+<(?P<path>[^>]*)>")
_TEXT: Final = re.compile(r'"(?P<text>(?:\\x[0-9a-f]{2})*)"')


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened to a file; `name` is relative to the recorded directory, `.` is the directory."""

    kind: str
    """`create`, `write`, `truncate`, `sync`, `unlink`."""
    name: str
    offset: int = 0
    data: bytes = b""
    size: int = 0
    """To which it was truncated."""
    begun: int = 0
    """How many events had happened when it began: a sync covers no write that came later."""


def record(
    command: Sequence[str], directory: Path, names: Iterable[str], environment: Mapping[str, str]
) -> list[Event]:
    """Run a command, with all that it starts, and return what it did to these files of a directory."""
    log = directory.parent / f"{directory.name}.strace"
    paths = [directory, *(directory / name for name in names)]
    done = subprocess.run(
        ["strace", "-f", "-y", "-xx", "-s", "8388608", "--seccomp-bpf", "-e", f"trace={_CALLS}", "-o", log]
        + [part for path in paths for part in ("-P", path)]
        + list(command),
        cwd=directory,
        env=dict(environment),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with log.open(encoding="ascii", errors="replace") as lines:
        events = list(_events(lines, str(directory)))
    log.unlink()
    return events


def _events(lines: Iterable[str], directory: str) -> Iterator[Event]:
    begun: dict[str, tuple[str, int]] = {}
    number = 0
    for line in lines:
        found = _LINE.match(line.rstrip("\n"))
        if found is None:
            continue
        pid, rest = found["pid"], found["rest"]
        if rest.endswith(_UNFINISHED):
            begun[pid] = (rest.removesuffix(_UNFINISHED), number)
            continue
        since = number
        resumed = _RESUMED.match(rest)
        if resumed:
            beginning, since = begun.pop(pid)
            rest = beginning + resumed["rest"]
        event = _event(rest, directory, since)
        if event is not None:
            yield event
            number += 1


def _event(text: str, directory: str, begun: int) -> Event | None:
    call = _CALL.match(text)
    if call is None or int(call["result"]) < 0:
        return None
    kind, arguments, result = call["call"], call["arguments"], int(call["result"])
    if kind in ("unlink", "unlinkat"):
        return Event("unlink", _relative(_texts(arguments)[-1], directory))
    if kind == "openat":
        return _opened(arguments, directory)
    file = _FILE.match(arguments)
    assert file, text[:200]
    name = _relative(_decoded(file["path"]), directory)
    if kind in ("fsync", "fdatasync"):
        return Event("sync", name, begun=begun)
    if kind == "ftruncate":
        return Event("truncate", name, size=int(arguments.rpartition(", ")[2]))
    if kind == "pwrite64":
        return Event("write", name, int(arguments.rpartition(", ")[2]), _texts(arguments)[-1][:result])
    if kind == "write":
        return Event("append", name, data=_texts(arguments)[-1][:result])
    raise AssertionError(f"nobody knows what this does to the disk: {text[:200]}")


def _opened(arguments: str, directory: str) -> Event | None:
    name = _relative(_texts(arguments)[-1], directory)
    if "O_TRUNC" in arguments:
        return Event("truncate", name, size=0)
    return Event("create", name) if "O_CREAT" in arguments else None


def _texts(arguments: str) -> list[bytes]:
    return [_decoded(match["text"]) for match in _TEXT.finditer(arguments)]


def _decoded(text: str) -> bytes:
    return bytes.fromhex(text.replace("\\x", ""))


def _relative(path: bytes, directory: str) -> str:
    name = path.decode().removesuffix(" (deleted)")
    return "." if name == directory else name.removeprefix(directory + "/")
