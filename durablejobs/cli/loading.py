"""Loading the user's handlers: only `worker`, and `enqueue` when it is told to, do this."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Final

from ..failures import safe_text
from .errors import ExitCode, Refusal
from .settings import FILE, TABLE

if TYPE_CHECKING:
    from ..app import DurableJobs

DEFAULT_MODULE: Final = "handlers"
DEFAULT_NAME: Final = "jobs"


def load_app(given: str) -> DurableJobs:
    """Import `module` or `module:name` and return its `DurableJobs`. Raises `Refusal` in one line."""
    module_name, separator, name = given.partition(":")
    if not _is_dotted_name(module_name) or (separator and not _is_dotted_name(name)):
        raise Refusal(f"--app: {_shape_hint(given)}", ExitCode.USAGE)
    module = _import(module_name)
    return _named(module, name) if separator else _only(module)


def load_default_app() -> DurableJobs:
    """Return the `DurableJobs` of the working directory's `handlers.py`. Raises `Refusal` without one."""
    if not Path(f"{DEFAULT_MODULE}.py").is_file():
        raise Refusal(
            f'no handlers: give --app MODULE:NAME, set DURABLEJOBS_APP, write app = "module:jobs" under '
            f"[{TABLE}] in {FILE}, or put a {DEFAULT_MODULE}.py into this directory",
            ExitCode.USAGE,
        )
    return load_app(DEFAULT_MODULE)


def _is_dotted_name(text: str) -> bool:
    return all(part.isidentifier() for part in text.split("."))


def _shape_hint(given: str) -> str:
    path, _, name = given.partition(":")
    if path.endswith(".py"):
        module = path.removesuffix(".py").removeprefix("./").replace("/", ".")
        return f"name the module, not its file: {module}{':' + name if name else ''}"
    return f"must be MODULE or MODULE:NAME, for example handlers:jobs, not {given!r}"


def _import(module_name: str) -> ModuleType:
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise Refusal(f"--app: no module '{module_name}' in {here} or installed", ExitCode.USAGE) from None
        raise Refusal(_import_failure(module_name, error)) from error
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # sys.exit in a module included: the user's code may raise anything
        raise Refusal(_import_failure(module_name, error)) from error


def _import_failure(module_name: str, error: BaseException) -> str:
    """Return one line: the module, file and line of the user's code, and the error."""
    place = _place(error)
    reason = f"{type(error).__name__}: {error.msg}" if isinstance(error, SyntaxError) else safe_text(error)
    name, separator, message = reason.partition(": ")
    first_line = (message.strip().splitlines() or [""])[0]
    return f"cannot import {module_name}: {place + ': ' if place else ''}{name}{separator}{first_line}"


def _place(error: BaseException) -> str:
    if isinstance(error, SyntaxError) and error.filename is not None:
        return f"{_short(error.filename)}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    frames = [frame for frame in frames if frame.filename not in (__file__, importlib.__file__)]
    # The innermost line of the user's own: an error deep in a library is caused there.
    own = [frame for frame in frames if _is_own(frame.filename)]
    innermost = (own or frames)[-1:]
    return f"{_short(innermost[0].filename)}:{innermost[0].lineno}" if innermost else ""


def _is_own(filename: str) -> bool:
    path = Path(filename)
    return path.is_relative_to(Path.cwd()) and "site-packages" not in path.parts


def _short(filename: str) -> str:
    path = Path(filename)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else filename


def _named(module: ModuleType, name: str) -> DurableJobs:
    from ..app import DurableJobs

    found: object = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, DurableJobs):
        return found
    if found is None:
        raise Refusal(f"--app: {module.__name__} has no '{name}'{_candidates_hint(module)}", ExitCode.USAGE)
    raise Refusal(
        f"--app: {module.__name__}:{name} is a {type(found).__name__}, not a DurableJobs{_candidates_hint(module)}",
        ExitCode.USAGE,
    )


def _only(module: ModuleType) -> DurableJobs:
    """Return `jobs`, or whatever the module's only DurableJobs is called."""
    candidates = _candidates(module)
    if DEFAULT_NAME in candidates:
        return candidates[DEFAULT_NAME]
    if len({id(app) for app in candidates.values()}) == 1:
        return next(iter(candidates.values()))
    if not candidates:
        raise Refusal(f"--app: {module.__name__} has no DurableJobs object", ExitCode.USAGE)
    raise Refusal(f"--app: {module.__name__} has several DurableJobs{_candidates_hint(module)}", ExitCode.USAGE)


def _candidates(module: ModuleType) -> dict[str, DurableJobs]:
    from ..app import DurableJobs

    return {name: value for name, value in vars(module).items() if isinstance(value, DurableJobs)}


def _candidates_hint(module: ModuleType) -> str:
    names = [f"{module.__name__}:{name}" for name in _candidates(module)]
    return f"; there is {', '.join(names)}" if names else ""
