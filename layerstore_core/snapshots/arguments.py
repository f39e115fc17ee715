"""Check what callers pass: keys, labels, and the fields of an update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from layerstore_core.base.arguments import check_type
from layerstore_core.errors import InvalidSnapshot

#: The longest key, in bytes; that of containerd's own database (bbolt, `MaxKeySize`).
LONGEST_KEY: Final = 32768
#: The most bytes of all names and values of a snapshot's labels together.
MOST_LABELS: Final = 1 << 20
_LABELS: Final = "labels"


def check_key(key: object, what: str = "the key of a snapshot") -> str:
    """Return a key, if it can be one.

    Raises:
        InvalidSnapshot: it is empty or too long, or no text that can be stored.
    """
    check_type(key, str, f"{what}, which is text")
    assert isinstance(key, str)
    if not key:
        raise InvalidSnapshot(f"{what} must not be empty")
    if _size(key, what) > LONGEST_KEY:
        raise InvalidSnapshot(f"{what} is longer than {LONGEST_KEY} bytes: {key[:100]!r}…")
    return key


def check_labels(labels: object) -> dict[str, str]:
    """Return labels, if they can be stored.

    Raises:
        InvalidSnapshot: they are not text, or too many.
    """
    if not isinstance(labels, Mapping):
        raise TypeError(f"expected labels as a mapping of text to text, not {type(labels).__name__} {labels!r:.100}")
    size = 0
    for name, value in labels.items():
        if not isinstance(name, str) or not isinstance(value, str):
            raise InvalidSnapshot(f"a label is a name and a value, both text; got {name!r:.100} and {value!r:.100}")
        size += _size(name, "the name of a label") + _size(value, f"the label {name[:100]!r}")
    if size > MOST_LABELS:
        raise InvalidSnapshot(f"the labels of a snapshot have {size} bytes; at most {MOST_LABELS} are kept")
    return dict(labels)


def updated_labels(former: Mapping[str, str], labels: Mapping[str, str], fields: Sequence[str]) -> dict[str, str]:
    """Return the labels that a snapshot has after an update.

    Args:
        former: those that it has.
        labels: those of the request.
        fields: what is to be changed: `labels` for all, `labels.NAME` for one, which is removed if the request does not
            have it. Nothing for all.

    Raises:
        InvalidSnapshot: another field, or too many labels.
    """
    new = dict(former)
    for field in fields or (_LABELS,):
        check_type(field, str, "the name of a field, which is text")
        if field == _LABELS:
            new = dict(labels)
            continue
        start, _, name = field.partition(".")  # the name of a label may have dots itself
        if start != _LABELS or not name:
            raise InvalidSnapshot(
                f"the field {field[:300]!r} of a snapshot cannot be changed: only 'labels' and 'labels.NAME' can"
            )
        if name in labels:
            new[name] = labels[name]
        else:
            new.pop(name, None)
    return check_labels(new)


def _size(text: str, what: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidSnapshot(f"{what} has characters that are not Unicode: {text[:100]!r}") from error
