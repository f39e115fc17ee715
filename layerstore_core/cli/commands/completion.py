"""`layerstore completion`: the script by which a shell completes our commands."""

from __future__ import annotations

import click
from click.shell_completion import ShellComplete, get_completion_class

from layerstore_core.cli.parameters import COMPLETE_VARIABLE, PROGRAM, json_option
from layerstore_core.cli.session import Session


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@json_option
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the completion script for a shell.

    The shell then completes commands, options, chain IDs, and the names of images and writable layers.

    \b
    Examples:
      layerstore completion bash > ~/.local/share/bash-completion/completions/layerstore
      layerstore completion zsh > "${fpath[1]}/_layerstore"
      layerstore completion fish > ~/.config/fish/completions/layerstore.fish
    """
    from layerstore_core.cli.shellwords import register

    register()
    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"the installed version of click has no completion for {shell}; update click")
    # Call the base class's method: the one for bash starts bash first, which this machine may not have.
    source = ShellComplete.source(kind(context.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE))
    # In some versions of click the script ends with a line feed, in others not.
    script = source.rstrip("\n") + "\n"
    context.ensure_object(Session).answer({"shell": shell, "script": script}, script.splitlines)
