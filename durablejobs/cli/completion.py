"""`durablejobs completion`: the script for completion in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .commands import Command
from .errors import Refusal

SHELLS = ("bash", "zsh", "fish")


@click.command(
    cls=Command,
    short_help="Print the script for completion in a shell.",
    examples=[
        'eval "$(durablejobs completion bash)"                            # in ~/.bashrc',
        'eval "$(durablejobs completion zsh)"                             # in ~/.zshrc',
        "durablejobs completion fish > ~/.config/fish/completions/durablejobs.fish",
    ],
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and statuses in a shell."""
    kind = get_completion_class(shell)
    assert kind is not None
    root = click.get_current_context().find_root().command
    try:
        click.echo(kind(root, {}, "durablejobs", "_DURABLEJOBS_COMPLETE").source())
    except RuntimeError as error:  # click could not find out the version of bash
        raise Refusal(str(error)) from None
