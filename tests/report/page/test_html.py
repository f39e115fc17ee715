"""The text of a page: nothing from elsewhere, a policy that fits, data that cannot end its element."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerstore_core.images import Images
from layerstore_core.report.document import image_report
from layerstore_core.report.page.html import embedded, page
from tests import tars
from tests.report.conftest import load

ENDS = "</script><script>alert(1)</script>"
HOSTILE = [ENDS, "<!--", "]]>", "@@SCRIPT@@", "\u2028\u2029", "a&amp;b", "-->", "\udcff"]


class Elements(HTMLParser):
    """Collects the elements of a page, and what is in those that have text only."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=False)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.comments: list[str] = []
        self._inside = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._inside = tag if tag in ("script", "style") else ""
        if self._inside:
            self.texts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.texts[-1] += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


@pytest.mark.parametrize("kind", ["image", "comparison", "store"])
def test_a_page_needs_nothing_from_elsewhere(kind: str, documents: dict[str, dict[str, Any]]) -> None:
    found = Elements(page(documents[kind]).decode())
    names = [tag for tag, _ in found.tags]
    assert names.count("script") == 2
    assert names.count("style") == 1
    assert not {"img", "iframe", "object", "base", "form"} & set(names)
    for tag, attributes in found.tags:
        for name, value in attributes.items():
            if name in ("src", "href", "srcset", "action"):
                assert (value or "").startswith(("#", "data:")), (tag, name, value)
            assert not name.startswith("on")
            assert name != "style"
    style = found.texts[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_script_and_the_style_of_the_page_and_nothing_else(
    documents: dict[str, dict[str, Any]],
) -> None:
    found = Elements(page(documents["image"]).decode())
    (policy,) = (a["content"] or "" for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    style, data, script = found.texts
    assert json.loads(data)["kind"] == "image"

    def of(text: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"

    assert rules == {
        "default-src": "'none'",
        "script-src": of(script),
        "style-src": of(style),
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_the_page_has_the_licenses_of_what_it_is_made_of(documents: dict[str, dict[str, Any]]) -> None:
    (comment,) = Elements(page(documents["image"]).decode()).comments
    assert "d3-hierarchy" in comment
    assert "Permission to use, copy, modify" in comment


def test_no_name_can_leave_the_data(images: Images) -> None:
    names = [*(name.encode("utf-8", "surrogateescape").replace(b"/", b"|") for name in HOSTILE), b"caf\xe9"]
    steps = [{"created_by": "".join(HOSTILE[:7])}]
    layer = tars.tar(*(tars.entry(name, b"x" * 9) for name in names))
    settings = {"Env": HOSTILE[:7], "Labels": dict.fromkeys(HOSTILE[:7], "<")}
    load(images, [layer], "app:1", history=steps, config=settings)
    text = page(image_report(images.analyze("app:1"))).decode()
    plain = page(image_report_of_nothing(images)).decode()
    found, other = Elements(text), Elements(plain)
    assert [tag for tag, _ in found.tags] == [tag for tag, _ in other.tags]
    assert found.texts[0] == other.texts[0]
    assert found.texts[2] == other.texts[2]
    shown = {row[1] for row in json.loads(found.texts[1])["image"]["tree"]}
    assert "caf\\udce9" in shown
    assert "<|script><script>alert(1)<|script>" in shown
    assert "\\u2028\\u2029" in shown
    assert found.texts[1].isascii()


def image_report_of_nothing(images: Images) -> dict[str, Any]:
    load(images, [tars.tar(tars.entry(b"a"))], "nothing:1")
    return image_report(images.analyze("nothing:1"))


@given(st.text())
def test_embedded_text_is_plain_and_comes_back(text: str) -> None:
    found = embedded({"a": text})
    assert json.loads(found) == {"a": text}
    assert found.isascii()
    assert not re.search("[<>&]", found)


def test_the_same_report_gives_the_same_bytes(documents: dict[str, dict[str, Any]]) -> None:
    assert page(documents["comparison"]) == page(documents["comparison"])
