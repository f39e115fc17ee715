"""The program, driven by Textual's own harness: what keys do, and what is on the screen then."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from textual.pilot import Pilot

from layerstore_core import Images, LayerStore
from layerstore_core.errors import LayerDoesNotExist
from layerstore_core.explore.file_tree import Order
from layerstore_core.explore.image import Scope
from layerstore_core.explore.lines import shown as shown_name
from layerstore_core.explore.screens.comparison import ComparisonScreen
from layerstore_core.explore.screens.image import ImageScreen, Tab
from layerstore_core.explore.screens.reading import ContentReading, Reading
from layerstore_core.explore.start import image_app
from tests.explore.conftest import Drive, drive_app, press, screen_text, settle, write


def shown(pilot: Pilot[Any]) -> list[str]:
    """Return the paths of the tree's visible rows."""
    rows = screen(pilot).files.rows
    assert rows is not None
    return [row.path.decode(errors="replace") for row in rows]


def screen(pilot: Pilot[Any]) -> Any:
    return pilot.app.screen


def test_layers_and_their_trees_are_shown(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        assert isinstance(pilot.app.screen, ImageScreen)
        text = screen_text(pilot)
        assert "Layers of app:2" in text and "step 0" in text and "Efficiency" in text
        assert shown(pilot) == ["etc", "lib", "usr", "var"]
        await press(pilot, "k")
        assert screen(pilot).number == 1
        await press(pilot, "L")
        assert shown(pilot) == [
            "etc", "etc/motd", "usr", "usr/lib", "usr/lib/moved.so", "usr/lib/two.so",
            "var", "var/cache", "var/cache/big", "var/cache/small",
        ]  # fmt: skip
        text = screen_text(pilot)
        assert "moved from /usr/lib/two.so" in text
        await press(pilot, "g")
        assert screen(pilot).number == 0
        await press(pilot, "G", "B")
        assert screen(pilot).scope is Scope.SINCE_BASE

    drive(script, size=(160, 40))


def test_one_line_has_the_cursor(drive: Drive) -> None:
    def marked(pilot: Pilot[Any]) -> list[str]:
        strips = pilot.app.screen._compositor.render_strips()
        return [
            "".join(segment.text for segment in strip if segment.style is not None and segment.style.reverse).strip()
            for strip in strips
            if any(segment.style is not None and segment.style.reverse for segment in strip)
        ]

    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "tab", "z")
        for key in ("j", "j", "k", "G", "g", "j"):
            await press(pilot, key)
            (line,) = marked(pilot)
            assert shown_name(screen(pilot).files.current.name) in line

    drive(script)


def test_hostile_names_are_escaped(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "L")
        text = screen_text(pilot)
        assert r"a\x1b[31mred\r\nb" in text
        assert "\x1b" not in text

    drive(script)


def test_directories_open_and_close(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "tab", "space")
        assert "etc/motd" in shown(pilot)
        await press(pilot, "j", "h")
        assert screen(pilot).files.current.path == b"etc"
        await press(pilot, "left")
        assert shown(pilot) == ["etc", "lib", "usr", "var"]
        await press(pilot, "z")
        assert "usr/lib/one.so" in shown(pilot)
        await press(pilot, "z")
        assert len(shown(pilot)) == 4
        await press(pilot, "G")
        assert screen(pilot).files.current.path == b"var"
        await press(pilot, "ctrl+b")
        assert "drwx" not in screen_text(pilot)

    drive(script)


def test_open_directories_and_the_cursor_stay_from_layer_to_layer(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "tab", "space", "j", "shift+tab", "k")
        assert "etc/hosts" in shown(pilot)

    drive(script)


def test_files_are_filtered_and_shown_again(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "slash")
        await write(pilot, "*.so")
        assert shown(pilot) == ["usr", "usr/lib", "usr/lib/moved.so", "usr/lib/one.so"]
        assert "2 files fit" in screen_text(pilot)
        await press(pilot, "escape")
        assert shown(pilot)[0] == "etc"
        await press(pilot, "ctrl+f")
        await write(pilot, "~[")
        assert "no regular expression" in screen_text(pilot)
        await press(pilot, "U")
        assert shown(pilot) == ["etc"]
        await press(pilot, "U", "slash")
        await write(pilot, "nothing-like-it")
        assert "No file fits the filter." in screen_text(pilot)

    drive(script)


def test_kinds_are_hidden_as_in_dive(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "k", "L", "tab", "g", "enter")
        assert "etc/motd" not in shown(pilot)
        await press(pilot, "enter", "ctrl+r")
        assert "var/cache" not in shown(pilot)
        await press(pilot, "ctrl+r", "m")
        assert "etc/motd" not in shown(pilot) and "var/cache" in shown(pilot)
        await press(pilot, "shift+tab", "ctrl+a")
        assert screen(pilot).scope is Scope.SINCE_BASE

    drive(script)


def test_files_are_sorted_by_size(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "s")
        assert screen(pilot).files.rows.tree.order is Order.SIZE
        assert shown(pilot)[0] == "usr"
        await press(pilot, "k")
        assert screen(pilot).files.rows.tree.order is Order.SIZE
        await press(pilot, "s")
        assert shown(pilot)[0] == "etc"

    drive(script)


def test_a_file_is_read_as_text_and_as_hex(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "tab", "space", "slash")
        await write(pilot, "hosts")
        await press(pilot, "j", "enter")
        assert isinstance(pilot.app.screen, ContentReading)
        assert "127.0.0.1 localhost" in screen_text(pilot)
        await press(pilot, "x")
        assert "31 32 37 2e 30 2e 30 2e" in screen_text(pilot)
        await press(pilot, "slash")
        await write(pilot, "6f 73 74")
        assert screen(pilot).query_one("LineList").cursor == 1
        await press(pilot, "q")
        assert isinstance(pilot.app.screen, ImageScreen)

    drive(script)


def test_a_deleted_file_is_read_and_exported_as_it_was(drive: Drive, tmp_path: Path) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "k", "L")
        screen(pilot).files.reveal(b"var/cache/big")
        await press(pilot, "tab", "enter")
        assert isinstance(pilot.app.screen, ContentReading)
        await press(pilot, "escape", "e")
        await write(pilot, str(tmp_path / "big"))
        assert (tmp_path / "big").read_bytes() == b"b" * 3000
        assert "Copied" in screen_text(pilot) and "1 files, 2.9 KiB" in screen_text(pilot)
        await press(pilot, "e")
        await write(pilot, str(tmp_path / "no" / "big"))
        assert "its directory does not exist" in screen_text(pilot)

    drive(script)


def test_it_says_where_a_path_comes_from(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        screen(pilot).files.reveal(b"etc/motd")
        await press(pilot, "tab", "w")
        assert isinstance(pilot.app.screen, Reading)
        text = screen_text(pilot)
        assert "changed by layer 1" in text and "added by layer 0" in text
        await press(pilot, "q", "f")
        assert "450 B (450 bytes)" in screen_text(pilot)

    drive(script)


def test_details_lead_to_the_tree(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "2")
        assert "/var/cache/big" in screen_text(pilot)
        details = screen(pilot).query_one("#details")
        details.focus()
        await press(pilot, "j", "enter")
        assert screen(pilot).files.current.path == b"var/cache/big"
        assert screen(pilot).number == 1
        await press(pilot, "3")
        assert "/etc/copy" in screen_text(pilot) and "/etc/hosts" in screen_text(pilot)
        await press(pilot, "right_square_bracket")
        assert "No database of packages" in screen_text(pilot)
        await press(pilot, "5")
        assert '"Cmd"' in screen_text(pilot)
        await press(pilot, "i")
        assert not details.display
        await press(pilot, "left_square_bracket")
        assert details.display and screen(pilot).tab is Tab.PACKAGES

    drive(script)


def test_layers_and_images_are_compared(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "c")
        await write(pilot, "0")
        assert isinstance(pilot.app.screen, ComparisonScreen)
        assert "layer 0 → layer 2" in screen_text(pilot)
        assert "var/cache" in shown(pilot) and "etc/hosts" not in shown(pilot)
        await press(pilot, "L")
        screen(pilot).files.reveal(b"etc/hosts")
        await press(pilot, "enter")
        assert "127.0.0.1" in screen_text(pilot)
        await press(pilot, "q", "q", "c")
        await write(pilot, "app:1")
        assert "app:2 → app:1" in screen_text(pilot)
        assert set(shown(pilot)) >= {"etc", "etc/copy"}
        await press(pilot, "q", "c")
        await write(pilot, "nothing:1")
        assert "there is no image" in screen_text(pilot)
        assert isinstance(pilot.app.screen, ImageScreen)

    drive(script)


def test_the_keys_are_shown(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await press(pilot, "question_mark")
        assert "next change, previous change" in screen_text(pilot)

    drive(script)


@pytest.mark.parametrize("size", [(40, 12), (60, 24), (200, 60)], ids=str)
def test_any_size_of_the_terminal_will_do(drive: Drive, size: tuple[int, int]) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        text = screen_text(pilot)
        assert "Layers of app:2" in text and "etc/" in text
        await press(pilot, "tab", "z", "d", "u", "greater_than_sign", "less_than_sign")
        await pilot.resize_terminal(30, 10)
        await settle(pilot)
        assert "Layers" in screen_text(pilot)

    drive(script, size=size)


def test_lines_are_clicked(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        await pilot.click("#layers", offset=(3, 1))
        await settle(pilot)
        assert screen(pilot).number == 0
        await pilot.click("#tree", offset=(3, 3))
        await pilot.click("#tree", offset=(3, 3))
        await settle(pilot)
        assert "usr/lib" in shown(pilot)

    drive(script)


def test_it_begins_with_the_layer_and_the_filter_that_are_asked_for(drive: Drive) -> None:
    async def script(pilot: Pilot[Any]) -> None:
        assert shown(pilot) == ["var", "var/cache", "var/cache/big"]

    drive(script, layer=1, scope=Scope.LAYER, text="big")


def test_an_image_that_cannot_be_opened_ends_the_program_with_its_error(store: LayerStore) -> None:
    image = Images(store).get("app:1")
    for name in ("app:1", "app:2"):
        Images(store).remove(name)
    app = image_app(store, image, "app:1")

    async def script(pilot: Pilot[Any]) -> None:
        assert isinstance(app.return_value, LayerDoesNotExist)

    drive_app(app, script)
