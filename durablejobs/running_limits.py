"""Handlers of which only so many jobs run at once: the rule, and the key that says which of its jobs share places.

A key is made from the job's arguments by a template, `"{kwargs[tenant]}"`. It is filled in here and not by
`str.format`, which reads attributes too: a template reaches nothing but JSON values.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from string import Formatter
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from .errors import ArgumentsError, ConfigurationError, RegistrationError

LONGEST_KEY: Final = 500
"""Characters, with the name of the handler."""
_FIELD: Final = re.compile(r"(args|kwargs)((?:\[[^\[\]]+\])+)")
_STEP: Final = re.compile(r"\[([^\[\]]+)\]")
_FORMS: Final = "write {kwargs[name]} or {args[0]}, with more [...] for what lies inside"


class _Field(NamedTuple):
    """A piece of a template: text, then the way to an argument (none behind the last text)."""

    text: str
    root: str = ""
    steps: tuple[str, ...] = ()


def parse_template(template: object) -> tuple[_Field, ...]:
    """Return the pieces of a template. Raises `ConfigurationError`, also for one that asks for attributes."""
    if not isinstance(template, str):
        raise ConfigurationError("running_key", f"must be a text such as '{{kwargs[tenant]}}', not {template!r}")
    try:
        pieces = list(Formatter().parse(template))
    except ValueError as error:
        raise ConfigurationError("running_key", f"{template!r} is not a template: {error}") from None
    fields = []
    for text, name, form, conversion in pieces:
        if name is None:
            fields.append(_Field(text))
            continue
        found = _FIELD.fullmatch(name)
        if found is None or form or conversion:
            whole = name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else "")
            raise ConfigurationError("running_key", f"cannot have {{{whole}}}: {_FORMS}")
        steps = tuple(_STEP.findall(found[2]))
        if found[1] == "args" and not _is_index(steps[0]):
            raise ConfigurationError(
                "running_key", f"cannot have {{{name}}}: args are counted, {{args[0]}} is the first"
            )
        fields.append(_Field(text, found[1], steps))
    if not any(field.root for field in fields):
        raise ConfigurationError("running_key", f"{template!r} names no argument: {_FORMS}")
    return tuple(fields)


def _is_index(step: str) -> bool:
    return step.isascii() and step.isdigit() and len(step) < 10


@dataclass(frozen=True, slots=True)
class RunningLimit:
    """At most so many jobs of a handler, or of a handler and key, run at once, all workers together."""

    handler: str
    max_running: int
    template: str | None = None
    fields: tuple[_Field, ...] = ()
    signature: inspect.Signature | None = None

    @classmethod
    def of(cls, handler: str, max_running: int, template: str | None, signature: inspect.Signature | None) -> Self:
        """Return the limit of a handler. Raises `RegistrationError` for a template that fits none of its jobs."""
        fields = parse_template(template) if template is not None else ()
        limit = cls(handler, max_running, template, fields, signature)
        for field in fields:
            if field.root and signature is not None and not limit._is_taken(field):
                taken = ", ".join(signature.parameters) or "nothing"
                where = f"{field.root}[{field.steps[0]}]"
                raise RegistrationError(f"handler '{handler}' has a running_key with {where}, but takes {taken}")
        return limit

    def _is_taken(self, field: _Field) -> bool:
        parameters = self.signature.parameters.values() if self.signature is not None else ()
        if field.root == "kwargs":
            return any(each.name == field.steps[0] or each.kind is each.VAR_KEYWORD for each in parameters)
        counted = [each for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
        return int(field.steps[0]) < len(counted) or any(each.kind is each.VAR_POSITIONAL for each in parameters)

    def key_of(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """Return what the row of a job with these arguments says: `handler`, or `handler/key`.

        Raises `ArgumentsError` when they do not have what the template names.
        """
        if self.template is None:
            return self.handler
        key = "".join(self._texts(args, kwargs))
        if len(self.handler) + 1 + len(key) > LONGEST_KEY or not key.isprintable():
            raise ArgumentsError(
                "", f"running_key '{self.template}' must give printable text of some {LONGEST_KEY} characters at most"
            )
        return f"{self.handler}/{key}"

    def key_of_json(self, args: str, kwargs: str) -> str:
        """Return the same for a row that was put in without it.

        Jobs that have no key, because their arguments are broken, share places: they run and say what is wrong.
        """
        try:
            return self.key_of(json.loads(args), json.loads(kwargs))
        except (ValueError, TypeError, RecursionError, ArgumentsError):
            return f"{self.handler}/"

    def _texts(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Iterator[str]:
        by_place, by_name = self._bound(args, kwargs)
        for text, root, steps in self.fields:
            yield text
            if not root:
                continue
            value: Any = by_place if root == "args" else by_name
            for step in steps:
                value = self._inside(value, step)
            yield value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)

    def _inside(self, value: Any, step: str) -> Any:
        if isinstance(value, Mapping) and step in value:
            return value[step]
        if isinstance(value, list | tuple) and _is_index(step) and int(step) < len(value):
            return value[int(step)]
        raise ArgumentsError("", f"running_key '{self.template}' of handler '{self.handler}': there is no [{step}]")

    def _bound(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
        """Return the arguments by place and by name, however each was passed, and the defaults of the others."""
        if self.signature is None:
            return args, kwargs
        try:
            bound = self.signature.bind(*args, **kwargs)
        except TypeError:
            return args, kwargs
        bound.apply_defaults()
        by_name: dict[str, Any] = {}
        by_place: list[Any] = []
        for name, value in bound.arguments.items():
            kind = self.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                by_name |= value
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                by_place += value
            else:
                by_name[name] = value
                if kind is not inspect.Parameter.KEYWORD_ONLY:
                    by_place.append(value)
        return by_place, by_name


NO_LIMITS: Final[Mapping[str, RunningLimit]] = MappingProxyType({})


def group_text(running_key: str, template: str | None) -> str:
    """Return for people which jobs share places: `tenant=acme`, or `key acme` where the template is no single name."""
    handler, _, key = running_key.partition("/")
    if template is None or "/" not in running_key:
        return f"handler {handler}"
    name = re.fullmatch(r"\{kwargs\[(?:[^\[\]]+\]\[)*([^\[\]]+)\]\}", template)
    return f"{name[1]}={key}" if name else f"key {key}"
