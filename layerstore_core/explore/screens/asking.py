"""Screens that ask: for a line of text, and whether to do something."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static


class Question(ModalScreen[str | None]):
    """Ask for a line of text; the result is `None` if there is no answer.

    Args:
        question: the question.
        value: what stands there already.
    """

    DEFAULT_CSS: ClassVar[str] = """
    Question { align: center middle; background: ansi_default 0%; }
    Question > Vertical {
        width: 80%; max-width: 90; height: auto; border: round ansi_cyan; padding: 0 1; background: ansi_default;
    }
    Question Static { height: auto; background: ansi_default; color: ansi_default; }
    Question Input { border: none; height: 1; padding: 0; background: ansi_default; color: ansi_default; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "cancel", "Cancel")]

    def __init__(self, question: str, value: str) -> None:
        super().__init__()
        self._question = question
        self._value = value

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        with Vertical():
            yield Static(self._question, markup=False)
            yield Input(self._value, select_on_focus=False)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer."""
        self.dismiss(event.value)

    def action_cancel(self) -> None:
        """Do not answer."""
        self.dismiss(None)


class Confirmation(ModalScreen[bool]):
    """Ask whether to do something; only `y` means yes.

    Args:
        question: the question.
    """

    DEFAULT_CSS: ClassVar[str] = """
    Confirmation { align: center middle; background: ansi_default 0%; }
    Confirmation > Static {
        width: 80%; max-width: 90; height: auto; border: round ansi_red; padding: 0 1; background: ansi_default;
        color: ansi_default;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("y", "answer(True)", "Yes"),
        Binding("n,escape,q", "answer(False)", "No"),
    ]

    def __init__(self, question: str) -> None:
        super().__init__()
        self._question = question

    def compose(self) -> ComposeResult:
        """Make the widgets."""
        yield Static(f"{self._question}\n\ny yes   n no", markup=False)

    def action_answer(self, answer: bool) -> None:
        """Answer."""
        self.dismiss(answer)
