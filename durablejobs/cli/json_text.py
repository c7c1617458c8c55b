"""JSON that a person typed: a mistake is answered with where it stands."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Final, NoReturn

from ..arguments import DEEPEST
from .errors import ExitCode, Refusal


class BadJSON(ValueError):
    """Text that is not the JSON it should be; `line` and `column` say where, if one place is to blame."""

    def __init__(self, problem: str, line: int | None = None, column: int | None = None) -> None:
        self.problem = problem
        self.line = line
        self.column = column
        super().__init__(f"{problem}, line {line} column {column}" if line is not None else problem)


def parse_json(text: str) -> Any:
    """Return the value of JSON text. Raises `BadJSON`."""
    try:
        return _decoder.decode(text)
    except json.JSONDecodeError as error:
        raise BadJSON(f"not JSON: {error.msg}", error.lineno, error.colno) from None
    except RecursionError:
        raise BadJSON(f"nested deeper than {DEEPEST}: pass a reference instead") from None
    except BadJSON:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise BadJSON(str(error).partition(";")[0]) from None


def _refuse_constant(name: str) -> NoReturn:
    raise BadJSON(f"not JSON: {name} is not a JSON number")


_decoder: Final = json.JSONDecoder(parse_constant=_refuse_constant)


def json_argument(name: str, text: str) -> Any:
    """Return the value of an argument. Raises `Refusal` that names the argument."""
    try:
        return parse_json(text)
    except BadJSON as error:
        raise Refusal(f"{name}: {error}", ExitCode.USAGE) from None


def json_from(option: str, source: str) -> Any:
    """Return the value of an option that is JSON text, `-` for stdin, or `@file`."""
    if source == "-":
        return json_argument(f"{option} -", _read_stdin(option))
    if source.startswith("@"):
        return json_argument(f"{option} {source}", _read_file(option, source[1:]))
    return json_argument(option, source)


def _read_stdin(option: str) -> str:
    if sys.stdin is None:
        raise Refusal(f"{option} -: standard input is closed", ExitCode.USAGE)
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise Refusal(f"{option} -: not UTF-8 at byte {error.start}", ExitCode.USAGE) from None


def _read_file(option: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise Refusal(f"{option} @{path}: {error.strerror}", ExitCode.USAGE) from None
    except UnicodeDecodeError as error:
        raise Refusal(f"{option} @{path}: not UTF-8 at byte {error.start}", ExitCode.USAGE) from None
