"""Choosing images by conditions such as `reference=app:*`, as Docker's `--filter` has them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Self

from layerstore_core.base.digests import ImageID
from layerstore_core.base.times import datetime_of, parse_rfc3339
from layerstore_core.base.units import parse_duration
from layerstore_core.images.image import Image

#: The keys that a condition may have.
KEYS: Final = ("reference", "dangling", "label", "label!", "before", "since", "until")
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}
#: The parts of a pattern: a set of characters, an escaped character, one of the signs, or any other character.
_PARTS = re.compile(r"\[(\^?)((?:\\.|[^\]\\])+)\]|\\(.)|(.)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ImageFilter:
    """Conditions on images. Those of one key are alternatives, but all labels are needed; the keys are all needed.

    Attributes:
        references: patterns of names, with `*`, `?` and `[…]`, which do not match a slash; with or without a tag.
        dangling: whether the image has neither a name nor an image that was built from it; `None`: either.
        labels: labels of the config that the image has; with the value `None`, any value.
        without_labels: labels that it does not have.
        before: names or IDs of images: it was created before one of them.
        since: names or IDs of images: it was created after one of them.
        until: it was created before this time; `None`: at any time.
    """

    references: tuple[str, ...] = ()
    dangling: bool | None = None
    labels: tuple[tuple[str, str | None], ...] = ()
    without_labels: tuple[tuple[str, str | None], ...] = ()
    before: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    until: datetime | None = None

    @classmethod
    def parse(cls, conditions: Iterable[tuple[str, str]]) -> Self:
        """Read conditions, each a key and a value.

        Raises:
            ValueError: a key is unknown, or its value cannot be used; the message says what can.
        """
        given: dict[str, list[str]] = {key: [] for key in KEYS}
        for key, value in conditions:
            if key not in given:
                raise ValueError(f"there is no filter {key!r}; filters of images are {', '.join(KEYS)}")
            if not value:
                raise ValueError(f"filter {key}: the value is missing; write {key}=VALUE")
            given[key].append(value)
        for pattern in given["reference"]:
            pattern_of(pattern)
        return cls(
            references=tuple(given["reference"]),
            dangling=boolean("dangling", given["dangling"]),
            labels=tuple(map(_label, given["label"])),
            without_labels=tuple(map(_label, given["label!"])),
            before=tuple(given["before"]),
            since=tuple(given["since"]),
            until=min(map(_until, given["until"]), default=None),
        )

    def select(
        self, images: Sequence[Image], get: Callable[[str], Image], parents: Callable[[], Collection[ImageID]]
    ) -> list[Image]:
        """Return the images that fulfil the conditions, with those of their names that do.

        Args:
            images: the images to choose from.
            get: returns an image by its name or ID.
            parents: returns the images from which others were built.

        Raises:
            ImageDoesNotExist, BadRecord: an image of `before` or `since` is missing or damaged.
        """
        patterns = [pattern_of(text) for text in self.references]
        built_from = parents() if self.dangling is not None else ()
        before = [created_of(get(name)) for name in self.before]
        since = [created_of(get(name)) for name in self.since]
        found = []
        for image in images:
            if self.dangling is not None and (bool(image.names or image.image_id in built_from) is self.dangling):
                continue
            if not self._has_labels(image) or not self._fits_times(image, before, since):
                continue
            if patterns:
                names = tuple(name for name in image.names if any(_matches(pattern, name) for pattern in patterns))
                if not names:
                    continue
                image = replace(image, names=names)
            found.append(image)
        return found

    def _has_labels(self, image: Image) -> bool:
        labels = labels_of(image)
        return all(_is_set(labels, label) for label in self.labels) and not any(
            _is_set(labels, label) for label in self.without_labels
        )

    def _fits_times(self, image: Image, before: Sequence[datetime | None], since: Sequence[datetime | None]) -> bool:
        if not (before or since or self.until):
            return True
        created = created_of(image)
        if created is None:  # neither before nor after anything
            return False
        return (
            (not before or any(time is not None and created < time for time in before))
            and (not since or any(time is not None and created > time for time in since))
            and (self.until is None or created < self.until)
        )


def labels_of(image: Image) -> Mapping[str, Any]:
    """Return the labels of an image's config; empty if there are none."""
    execution = image.config.document.get("config")
    labels = execution.get("Labels") if isinstance(execution, dict) else None
    return labels if isinstance(labels, dict) else {}


def created_of(image: Image) -> datetime | None:
    """Return when an image was built, from its config; `None` if the config has no time."""
    time = parse_rfc3339(image.created, lenient=True)
    return None if time is None else datetime_of(time)


def pattern_of(text: str) -> re.Pattern[str]:
    """Return a pattern of names as a regular expression. Its signs are those of Match in Go's package path.

    Raises:
        ValueError: a bracket is not closed, or a set of characters is wrong.
    """
    parts = []
    for negated, inside, escaped, other in _PARTS.findall(text):
        if inside:
            # Only the hyphen has a meaning of its own in there, as in Go.
            inner = re.sub(r"\\(.)|([^-])", lambda one: re.escape(one[1] or one[2]), inside, flags=re.DOTALL)
            parts.append(f"[{negated}{inner}]")
        elif escaped:
            parts.append(re.escape(escaped))
        elif other == "*":
            parts.append("[^/]*")
        elif other == "?":
            parts.append("[^/]")
        elif other in ("[", "\\"):
            raise ValueError(f"filter reference: {text!r} is not a pattern: {other!r} is not complete")
        else:
            parts.append(re.escape(other))
    try:
        return re.compile("".join(parts))
    except re.error as error:
        raise ValueError(f"filter reference: {text!r} is not a pattern: {error}") from None


def boolean(key: str, values: Sequence[str]) -> bool | None:
    """Return the value of a condition that is true or false; `None` if it is not given, or is both.

    Raises:
        ValueError: a value is neither.
    """
    for value in values:
        if value not in _BOOLEANS:
            raise ValueError(f"filter {key}: {value!r} is neither true nor false")
    found = {_BOOLEANS[value] for value in values}
    return found.pop() if len(found) == 1 else None


def _matches(pattern: re.Pattern[str], name: str) -> bool:
    if pattern.fullmatch(name):
        return True
    head, _, tag = name.partition("@") if "@" in name else name.rpartition(":")
    return bool(tag and pattern.fullmatch(head))


def _label(text: str) -> tuple[str, str | None]:
    key, equals, value = text.partition("=")
    if not key:
        raise ValueError(f"filter label: {text!r} names no label; write label=KEY or label=KEY=VALUE")
    return key, value if equals else None


def _is_set(labels: Mapping[str, Any], label: tuple[str, str | None]) -> bool:
    key, value = label
    return key in labels and value in (None, labels[key])


def _until(text: str) -> datetime:
    time = parse_rfc3339(text, lenient=True)
    if time is not None:
        return datetime_of(time)
    try:
        return datetime.now(UTC) - timedelta(seconds=parse_duration(text))
    except ValueError:
        raise ValueError(
            f"filter until: {text!r} is neither a time such as 2026-01-31T12:00:00Z nor a duration such as 7d or 12h"
        ) from None
    except OverflowError:
        raise ValueError(f"filter until: {text!r} is longer ago than any time") from None
