"""Handlers, registered by name.

The name in a row is a key into this registry and never an import path: who can write the file controls the
arguments, not the code that runs.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from .config import checked_name
from .errors import ArgumentsError, ConfigurationError, RegistrationError, ResourceError, UnknownHandlerError
from .handler_options import HandlerOptions, Mode
from .middleware import Middleware, check_middleware
from .redaction import Redaction
from .resources import Injection, ResourceDefinition, Unresolved, define_resource, find_injections, kind_name
from .running_limits import RunningLimit


@dataclass(slots=True, eq=False)
class HandlerDefinition:
    """A registered handler: its name, its function, and what its jobs get."""

    name: str
    function: Callable[..., Any]
    options: HandlerOptions = field(default_factory=HandlerOptions)
    mode: Mode = Mode.THREAD
    module: str = "__main__"
    """The module that registered it: what a child process imports."""
    signature: inspect.Signature | None = None
    """What its jobs may have as arguments: without the injected parameters."""
    positional_counts: range = range(0)
    """How many positional args it takes when there are no others: known without binding, which takes microseconds."""
    injections: tuple[Injection, ...] = ()
    """The parameters that are filled in with resources."""
    redaction: Redaction | None = None
    """What of the arguments is hidden."""
    running_limit: RunningLimit | None = None
    """How many of its jobs run at once."""

    @property
    def place(self) -> str:
        """Where the function stands: `file.py:12`."""
        code = getattr(self.function, "__code__", None)
        return f"{code.co_filename}:{code.co_firstlineno}" if code else repr(self.function)

    def find_injections(self, kinds: Mapping[Any, object]) -> None:
        """Tell the parameters that resources of these types fill in from those that are the job's arguments."""
        whole = _signature(self.function)
        self.injections = find_injections(self.function, whole, kinds)
        if whole is not None:
            injected = {each.name for each in self.injections}
            kept = [each for name, each in whole.parameters.items() if name not in injected]
            self.signature = whole.replace(parameters=kept) if injected else whole
            self.positional_counts = _positional_counts(self.signature)
        if self.options.redact:
            self.redaction = Redaction.of(self.options.redact, self.signature)
        if self.options.max_running is not None:
            limit = self.options.max_running, self.options.running_key
            self.running_limit = RunningLimit.of(self.name, *limit, self.signature)

    def check_arguments(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Raise `ArgumentsError` when the function cannot be called like this."""
        if self.signature is None or (not kwargs and len(args) in self.positional_counts):
            return
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise ArgumentsError("", f"handler '{self.name}' takes {self.name}{self.signature}: {error}") from None


def module_name(frame: FrameType) -> str:
    """Return the name of the module that a frame belongs to; a script's is the same in a worker and in its children."""
    name = str(frame.f_globals.get("__name__", "__main__"))
    return "__main__" if name == "__mp_main__" else name


def is_imported_by_a_child() -> bool:
    """Whether a child process is importing, at its start, the script that its worker was started by."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


class Registry:
    """The handlers that this process knows."""

    def __init__(self) -> None:
        self._handlers: dict[str, HandlerDefinition] = {}
        self.redactions: dict[str, Redaction] = {}
        """What is hidden, of the handlers that hide something."""
        self._resources: dict[Any, ResourceDefinition] = {}
        self.middlewares: tuple[Middleware, ...] = ()
        """Around every run, the first outermost."""

    def register(
        self, name: str | None, function: Callable[..., Any], options: HandlerOptions, module: str = "__main__"
    ) -> HandlerDefinition:
        """Add a handler; without a name, under its function's own. `module` is where this happens.

        Raises `RegistrationError` for what cannot be run, and for a name that is taken, naming both places.
        """
        if name is None:
            name = _own_name(function)
        try:
            checked_name(name, "handler name")
        except ConfigurationError as error:
            raise RegistrationError(str(error)) from None
        _refuse_what_cannot_run(name, function)
        mode = _mode(name, function, options)
        if mode is Mode.PROCESS:
            _refuse_what_no_child_finds(name, function, module)
        definition = HandlerDefinition(name, function, options, mode, module)
        definition.find_injections(self._resources)
        _refuse_unknown_arguments(definition)
        if name in self._handlers:
            raise RegistrationError(
                f"two handlers are named '{name}': {self._handlers[name].place} and {definition.place}; "
                f"give one of them another name"
            )
        self._handlers[name] = definition
        if definition.redaction is not None:
            self.redactions[name] = definition.redaction
        return definition

    def add_middleware(self, function: Any) -> None:
        """Add a middleware, inside of those that are there. Raises `RegistrationError`."""
        check_middleware(function)
        self.middlewares = (*self.middlewares, function)

    def add_resource(self, function: Any) -> None:
        """Add a resource. Raises `RegistrationError`, also for a second one of its type, naming both places."""
        definition = define_resource(function)
        taken = self._resources.get(definition.kind)
        if taken is not None:
            raise RegistrationError(
                f"two resources yield {kind_name(definition.kind)}: {taken.place} and {definition.place}; "
                f"give one of them a type of its own, for example with typing.NewType"
            )
        self._resources[definition.kind] = definition
        for handler in self._handlers.values():
            handler.find_injections(self._resources)

    def resources_of(self, *modes: Mode) -> list[ResourceDefinition]:
        """Return the resources that the handlers of these modes want, in the order of their registration.

        Raises `ResourceError` for a handler that wants what it cannot have.
        """
        wanted = set()
        for handler in self._handlers.values():
            if handler.mode in modes:
                handler.find_injections(self._resources)  # once more: now all types are there that were not yet
                wanted |= {self._resource_for(handler, injection).kind for injection in handler.injections}
        return [definition for kind, definition in self._resources.items() if kind in wanted]

    def _resource_for(self, handler: HandlerDefinition, injection: Injection) -> ResourceDefinition:
        if isinstance(injection.kind, Unresolved):
            raise ResourceError(
                f"handler '{handler.name}' wants {injection.kind} for '{injection.name}', which cannot be resolved "
                f"here ({injection.kind.reason}); import it outside of `if TYPE_CHECKING:`"
            )
        definition = self._resources.get(injection.kind)
        kind = "what no annotation says" if injection.kind is None else kind_name(injection.kind)
        if definition is None:
            raise ResourceError(f"handler '{handler.name}' wants {kind} for '{injection.name}': no resource yields it")
        if definition.is_async and handler.mode is not Mode.ASYNC:
            raise ResourceError(
                f"handler '{handler.name}' is not async, and {kind} for '{injection.name}' lives on the event loop: "
                f"make the handler an async def, or the resource a plain generator"
            )
        return definition

    def find(self, name: str) -> HandlerDefinition | None:
        """Return the handler of this name, or None."""
        return self._handlers.get(name)

    def get(self, name: str) -> HandlerDefinition:
        """Return the handler of this name. Raises `UnknownHandlerError`."""
        definition = self._handlers.get(name)
        if definition is None:
            raise UnknownHandlerError(name, self._handlers)
        return definition

    @property
    def names(self) -> list[str]:
        """The names, sorted."""
        return sorted(self._handlers)

    def of_mode(self, mode: Mode) -> list[HandlerDefinition]:
        """Return the handlers that run like this."""
        return [definition for definition in self._handlers.values() if definition.mode is mode]

    @property
    def running_limits(self) -> dict[str, RunningLimit]:
        """The limits of the handlers that have one."""
        return {name: each.running_limit for name, each in self._handlers.items() if each.running_limit is not None}

    @property
    def keeps_logs(self) -> bool:
        """Whether there are handlers whose logs are kept."""
        return any(definition.options.keep_log for definition in self._handlers.values())

    def __len__(self) -> int:
        return len(self._handlers)

    def __iter__(self) -> Iterator[HandlerDefinition]:
        return iter(self._handlers.values())


def _own_name(function: object) -> str:
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise RegistrationError(f"{function!r} has no name of its own: name the handler, @jobs.handler('name')")
    return name


def _refuse_what_cannot_run(name: str, function: object) -> None:
    if inspect.isclass(function):
        raise RegistrationError(f"handler '{name}' is a class; register a function")
    if not callable(function):
        raise RegistrationError(f"handler '{name}' is not a function but {type(function).__name__}")
    if _is(inspect.isgeneratorfunction, function) or _is(inspect.isasyncgenfunction, function):
        raise RegistrationError(f"handler '{name}' is a generator, its body would never run; return instead of yield")


def _collects(parameter: inspect.Parameter) -> bool:
    return parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)


def _refuse_unknown_arguments(definition: HandlerDefinition) -> None:
    """A mistyped name in `redact` would hide nothing, and nobody would notice."""
    if definition.signature is None:
        return
    parameters = definition.signature.parameters
    collecting = [name for name in definition.options.redact if name in parameters and _collects(parameters[name])]
    if collecting:
        raise RegistrationError(
            f"handler '{definition.name}' is to redact {', '.join(collecting)}, which collects any number of "
            "arguments; name single ones"
        )
    takes_any = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    unknown = [] if takes_any else [name for name in definition.options.redact if name not in parameters]
    if unknown:
        taken = ", ".join(parameters) or "nothing"
        raise RegistrationError(f"handler '{definition.name}' is to redact {', '.join(unknown)}, but takes {taken}")


def _is(kind: Callable[[object], bool], function: object) -> bool:
    """Whether a function, or the `__call__` of an object that is called like one, is of this kind."""
    return kind(function) or kind(getattr(function, "__call__", None))  # noqa: B004 - the method itself is wanted


def _mode(name: str, function: Callable[..., Any], options: HandlerOptions) -> Mode:
    if not _is(inspect.iscoroutinefunction, function):
        return Mode(options.mode or Mode.THREAD)
    if options.mode is not None:
        raise RegistrationError(
            f"handler '{name}' is async, so it runs on the event loop and takes no mode; "
            f"for mode='{options.mode}' write a plain function that calls asyncio.run(…)"
        )
    return Mode.ASYNC


def _refuse_what_no_child_finds(name: str, function: Callable[..., Any], module: str) -> None:
    """A child process imports the module; it knows nothing of what was made inside of functions, or typed in."""
    if "<locals>" in getattr(function, "__qualname__", ""):
        raise RegistrationError(
            f"handler '{name}' is defined inside of a function, where a child process cannot find it; "
            f"define and register it at the top level of a module"
        )
    if module == "__main__" and not hasattr(sys.modules["__main__"], "__file__") and not is_imported_by_a_child():
        raise RegistrationError(
            f"handler '{name}' is typed in, a child process cannot import it; write it into a file for mode='process'"
        )


def _signature(function: Callable[..., Any]) -> inspect.Signature | None:
    try:
        return inspect.signature(function)
    except (TypeError, ValueError):  # some functions written in C have none
        return None


def _positional_counts(signature: inspect.Signature | None) -> range:
    if signature is None:
        return range(0)
    parameters = signature.parameters.values()
    if any(each.kind is each.KEYWORD_ONLY and each.default is each.empty for each in parameters):
        return range(0)
    positional = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    required = sum(each.default is each.empty for each in positional)
    takes_any = any(each.kind is each.VAR_POSITIONAL for each in parameters)
    return range(required, 2**31 if takes_any else len(positional) + 1)
