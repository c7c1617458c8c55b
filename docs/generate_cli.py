"""Write docs/cli.md from the commands themselves: `python docs/generate_cli.py`."""

from __future__ import annotations

from pathlib import Path

import click

from durablejobs.cli.root import root

PAGE = Path(__file__).with_name("cli.md")


def reference() -> str:
    """Return the page: the help of each command, as it is printed."""
    parts = ["# Command line", "This page is made from the commands' own help by `python docs/generate_cli.py`."]
    parts.append(_block(root, None, "durablejobs"))
    for name in root.list_commands(click.Context(root)):
        command = root.get_command(click.Context(root), name)
        assert command is not None
        parts += [f"## {name}", _block(command, click.Context(root, info_name="durablejobs"), name)]
    return "\n\n".join(parts) + "\n"


def _block(command: click.Command, parent: click.Context | None, name: str) -> str:
    context = click.Context(command, info_name=name, parent=parent, terminal_width=100, max_content_width=100)
    text = "\n".join(line.rstrip() for line in command.get_help(context).splitlines())
    return f"```text\n{text}\n```"


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
