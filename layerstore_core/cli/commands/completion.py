"""`layerstore completion`: the script that teaches a shell our words."""

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

    Chain IDs and the names of images and writable layers are completed too.

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
        raise click.UsageError(f"this version of click cannot write completion for {shell}")
    # The base class's method: bash's own would first start a bash, which may not be on this machine.
    source = ShellComplete.source(kind(context.find_root().command, {}, PROGRAM, COMPLETE_VARIABLE))
    # Versions of click differ in whether it ends with a line feed.
    script = source.rstrip("\n") + "\n"
    context.ensure_object(Session).answer({"shell": shell, "script": script}, script.splitlines)
