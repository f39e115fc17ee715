"""Shell completion. In bash, a word that contains a `:`, such as an image's name, is completed as one word."""

from __future__ import annotations

import os

from click.shell_completion import BashComplete, CompletionItem, add_completion_class, split_arg_string

#: The characters besides blanks at which bash splits words (COMP_WORDBREAKS), as far as our words may contain them.
_BREAKS = ":=@"
_QUOTES = "\"'"

#: Bash splits `app:1` into three words, and replaces only the last with the completion. So the script passes the whole
#: line to the program, and that last piece. The program prints only the text that replaces the piece.
_BASH = """\
%(complete_func)s() {
    local IFS=$'\\n'
    local response

    response=$(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD=$COMP_CWORD \\
        _LAYERSTORE_LINE="${COMP_LINE:0:$COMP_POINT}" _LAYERSTORE_PIECE="${COMP_WORDS[COMP_CWORD]}" \\
        %(complete_var)s=bash_complete "$1")

    for completion in $response; do
        IFS=',' read -r type value <<< "$completion"

        if [[ $type == 'dir' ]]; then
            COMPREPLY=()
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            COMPREPLY=()
            compopt -o default
        elif [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
        fi
    done

    return 0
}

complete -o nosort -F %(complete_func)s %(prog_name)s
"""


class Bash(BashComplete):
    """Click's completion for bash, with another rule for where words begin."""

    source_template = _BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one to complete, and that word as far as it is typed."""
        line = os.environ.get("_LAYERSTORE_LINE")
        if line is None:
            return super().get_completion_args()
        words = split_arg_string(line)
        if not words or line != line.rstrip():
            words.append("")
        return words[1:-1], words[-1]

    def format_completion(self, item: CompletionItem) -> str:
        """Return the text that takes the place of the piece that bash replaces."""
        if item.type != "plain" or "_LAYERSTORE_LINE" not in os.environ:
            return super().format_completion(item)
        typed = self.get_completion_args()[1]
        if typed.startswith("--"):  # of `--option=value`, only the value is completed
            typed = typed.partition("=")[2] or typed
        piece = os.environ.get("_LAYERSTORE_PIECE", "").lstrip(_QUOTES)
        if not piece.strip(_BREAKS):
            piece = ""
        start = len(typed) - len(piece) if typed.endswith(piece) else 0
        return f"plain,{item.value[start:]}"


def register() -> None:
    """Use this class for completion in bash."""
    add_completion_class(Bash)
