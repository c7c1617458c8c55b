"""What the commands are made of: a command that shows examples, and a group that imports a command when it is used."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import click
from click.shell_completion import CompletionItem

from ..spelling import nearest
from .errors import guarded

CONTEXT: Final[dict[str, Any]] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Command(click.Command):
    """A command whose help ends with examples; it returns its exit code, or None for 0."""

    def __init__(self, *args: Any, examples: Sequence[str] = (), **options: Any) -> None:
        options["context_settings"] = CONTEXT | (options.get("context_settings") or {})
        super().__init__(*args, **options)
        self.examples = list(examples)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples as they are typed."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"  {example}\n")
        super().format_epilog(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Say what to do about an argument that looks like an option because it is a negative number."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name[1:2].isdigit():
                hint = "is not an option; put -- before arguments that begin with '-'"
                raise click.UsageError(f"{error.option_name} {hint}", ctx) from None
            raise


class LazyCommand:
    """A command that is known by its one-line help and imported when it is used."""

    def __init__(self, home: str, summary: str, section: str) -> None:
        self.home = home
        """`module:attribute`, the module relative to this package."""
        self.summary = summary
        self.section = section

    def load(self) -> click.Command:
        """Import it."""
        module, _, attribute = self.home.partition(":")
        command = getattr(importlib.import_module(f".{module}", __package__), attribute)
        assert isinstance(command, click.Command)
        return command


class LazyGroup(click.Group):
    """A group that lists and completes its commands without importing them."""

    def __init__(self, *args: Any, lazy: dict[str, LazyCommand], **options: Any) -> None:
        super().__init__(*args, context_settings=CONTEXT, **options)
        self.lazy = lazy

    def main(self, args: Sequence[str] | None = None, *_: Any, **extra: Any) -> NoReturn:
        """Run, turn every error into its message and exit code, and exit."""
        given = list(sys.argv[1:] if args is None else args) or ["--help"]
        extra.pop("prog_name", None)
        run = super().main
        sys.exit(guarded(lambda: run(given, "durablejobs", standalone_mode=False, **extra)))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        """Return the names in the order of the help."""
        return list(self.lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        """Import a command."""
        known = self.lazy.get(cmd_name)
        return known.load() if known is not None else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or name the nearest one."""
        name = args[0]
        if name in self.lazy or name.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = nearest(name, self.lazy)
        hint = f"; did you mean '{near}'?" if near else f"; there are {', '.join(self.lazy)}"
        raise click.UsageError(f"no command '{name}'{hint}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        """Write the commands section by section."""
        for section in dict.fromkeys(each.section for each in self.lazy.values()):
            rows = [(name, each.summary) for name, each in self.lazy.items() if each.section == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_spacing=3)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete a command's name or an option of the group."""
        found = [
            CompletionItem(name, help=each.summary) for name, each in self.lazy.items() if name.startswith(incomplete)
        ]
        return found + click.Command.shell_complete(self, ctx, incomplete)
