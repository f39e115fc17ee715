"""The HTML of a page: template, style, script and data in one file.

What comes from an image is JSON in an element that the browser does not run, and in which no text can end the element:
`<`, `>` and `&` are written as `\\u003c` and so on, and all that is not ASCII is escaped. The page's policy allows one
script and one style, by their hashes, and nothing from elsewhere.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, Final

from layerstore_core.report.page.data import page_data, shown

_ESCAPES: Final = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026"})


def page(document: Mapping[str, Any]) -> bytes:
    """Return the page of a report.

    Args:
        document: from `layerstore_core.report.document`.
    """
    style, script = _part("style.css").strip(), _part("script.js").strip()
    parts = {
        "TITLE": html.escape(_title(document)),
        "POLICY": (
            f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:; "
            "base-uri 'none'; form-action 'none'"
        ),
        "LICENSES": _part("LICENSES.txt").strip().replace("--", "- -"),
        "STYLE": style,
        "DATA": embedded(page_data(document)),
        "SCRIPT": script,
    }
    template = _part("template.html")
    # One pass over the template: what is put in is not searched for places.
    pieces = template.split("@@")
    return "".join(piece if number % 2 == 0 else parts[piece] for number, piece in enumerate(pieces)).encode()


def embedded(data: Any) -> str:
    """Return data as JSON that may stand in a script element."""
    return json.dumps(data, separators=(",", ":")).translate(_ESCAPES)


def _title(document: Mapping[str, Any]) -> str:
    if document["kind"] == "store":
        return "Store"
    name = shown(document["image"]["name"])
    return f"{shown(document['before']['name'])} → {name}" if document["kind"] == "comparison" else name


def _hash(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _part(name: str) -> str:
    return files("layerstore_core.report.page").joinpath(name).read_text("utf-8")
