"""Changes to an image's config, as options of commands and as arguments in Python have them.

What Docker does when it builds or commits is done here, too: a variable keeps its place when its value changes, a
working directory that is not absolute is in the old one, a port without a protocol is a TCP port, and a new entrypoint
without a new command clears the command, whose words belong to the old entrypoint.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Self

from layerstore_core.images.config.created import creation_time
from layerstore_core.images.config.instructions import (
    DEFAULT_SHELL,
    Command,
    HealthcheckOptions,
    check_text,
    ports,
    stop_signal,
    volumes,
    working_directory,
)

if TYPE_CHECKING:
    from layerstore_core.images.config.model import ExecutionConfig, ImageConfig


@dataclass(frozen=True, kw_only=True)
class ConfigOptions:
    """Changes to an image's config. What is not given stays as it is.

    Attributes:
        env: variables of the environment; `None` removes one.
        entrypoint: a list of words, or text: a JSON array of words, or a line for a shell. Empty: removed.
        cmd: likewise.
        user: the user, `NAME|UID[:GROUP|GID]`; empty: removed.
        workdir: the working directory, in the present one unless it is absolute; empty: removed.
        labels: labels; `None` removes one.
        annotations: annotations of the image's manifest; `None` removes one.
        expose: ports, such as `80`, `53/udp` or `8000-8003`; with `-` at the end: removed.
        volumes: paths of volumes, or JSON arrays of paths; with `-` at the end: removed.
        stop_signal: the signal that ends a container; empty: removed.
        healthcheck: `[--interval=D] [--timeout=D] [--start-period=D] [--start-interval=D] [--retries=N] CMD command`,
            or `NONE`, which also turns off the one of the base image; empty: removed.
        created: the time of the image; see `creation_time`.
        message: a comment for the history.
        author: who made the image; empty: removed.
    """

    env: Mapping[str, str | None] = field(default_factory=dict)
    entrypoint: str | Sequence[str] | None = None
    cmd: str | Sequence[str] | None = None
    user: str | None = None
    workdir: str | None = None
    labels: Mapping[str, str | None] = field(default_factory=dict)
    annotations: Mapping[str, str | None] = field(default_factory=dict)
    expose: Sequence[str] = ()
    volumes: Sequence[str] = ()
    stop_signal: str | None = None
    healthcheck: str | None = None
    created: str | datetime | None = None
    message: str = ""
    author: str | None = None

    def __post_init__(self) -> None:
        """Check all values.

        Raises:
            ValueError: one cannot be used.
            TypeError: one has another type.
        """
        _check_pairs(self.env, "a variable of the environment")
        _check_pairs(self.labels, "a label")
        _check_pairs(self.annotations, "an annotation")
        for command in (self.entrypoint, self.cmd):
            if command is not None:
                Command.of(command)
        for text, what in (
            (self.user, "the user"),
            (self.workdir, "the working directory"),
            (self.message, "the message"),
            (self.author, "the author"),
        ):
            if text is not None:
                check_text(text, what)
        if self.user and self.user != self.user.strip():
            raise ValueError(f"the user {self.user[:80]!r} has blanks around it")
        _split(self.expose, ports, "ports")
        _split(self.volumes, volumes, "volumes")
        if self.stop_signal:
            stop_signal(check_text(self.stop_signal, "the signal"))
        if self.healthcheck:
            HealthcheckOptions.of(self.healthcheck)
        if self.created is not None:
            creation_time(self.created)

    @classmethod
    def parse(
        cls,
        *,
        env: Iterable[str] = (),
        labels: Iterable[str] = (),
        annotations: Iterable[str] = (),
        entrypoint: str | None = None,
        cmd: str | None = None,
        user: str | None = None,
        workdir: str | None = None,
        expose: Sequence[str] = (),
        volumes: Sequence[str] = (),
        stop_signal: str | None = None,
        healthcheck: str | None = None,
        created: str | None = None,
        message: str | None = None,
        author: str | None = None,
    ) -> Self:
        """Read the options of a command line: as the attributes, but `KEY=VALUE` sets a value and `KEY-` removes it.

        Raises:
            ValueError: one cannot be used.
        """
        return cls(
            env=_pairs(env),
            labels=_pairs(labels),
            annotations=_pairs(annotations),
            entrypoint=entrypoint,
            cmd=cmd,
            user=user,
            workdir=workdir,
            expose=expose,
            volumes=volumes,
            stop_signal=stop_signal,
            healthcheck=healthcheck,
            created=created,
            message=message or "",
            author=author,
        )

    def __bool__(self) -> bool:
        """Return whether anything is to be changed."""
        return self != type(self)()

    @property
    def instructions(self) -> list[str]:
        """The changes in words for the history, as instructions of a Dockerfile."""
        lines = [_instruction("ENV", key, value) for key, value in self.env.items()]
        for word, command in (("ENTRYPOINT", self.entrypoint), ("CMD", self.cmd)):
            if command is not None:
                lines.append(f"{word} {Command.of(command)}")
        for word, text in (
            ("USER", self.user),
            ("WORKDIR", self.workdir),
            ("STOPSIGNAL", self.stop_signal),
            ("HEALTHCHECK", self.healthcheck),
        ):
            if text is not None:
                lines.append(f"{word} {text}" if text else f"{word} -")
        lines += [_instruction("LABEL", key, value) for key, value in self.labels.items()]
        lines += [f"EXPOSE {text}" for text in self.expose]
        lines += [f"VOLUME {text}" for text in self.volumes]
        return lines

    def apply(self, config: ImageConfig) -> None:
        """Change a config, and date it. Annotations are not part of it; see `new_annotations`.

        Raises:
            LayerStoreError: `created` is `SOURCE_DATE_EPOCH`, and the variable is not set.
        """
        from layerstore_core.images.config.model import ExecutionConfig

        if self.author:
            config.author = self.author
        elif self.author is not None:
            config.unset("author")
        config.created = creation_time(self.created)
        if self.instructions:
            run = ExecutionConfig() if config.config is None else config.config
            self._apply_to(run)
            if config.config is None and run.model_fields_set:
                config.config = run

    def new_annotations(self, old: Mapping[str, str]) -> dict[str, str]:
        """Return the annotations of an image that has these already."""
        return _merged(old, self.annotations)

    def _apply_to(self, run: ExecutionConfig) -> None:
        if self.env:
            run.replace("env", _environment(run.env or (), self.env))
        shell = run.shell or DEFAULT_SHELL
        if self.entrypoint is not None:
            words = Command.of(self.entrypoint).with_shell(shell)
            run.replace("entrypoint", words)
            if self.cmd is None:
                run.unset("cmd")
        if self.cmd is not None:
            run.replace("cmd", Command.of(self.cmd).with_shell(shell))
        if self.user is not None:
            run.replace("user", self.user)
        if self.workdir is not None:
            run.replace("working_dir", working_directory(self.workdir, run.working_dir) if self.workdir else "")
        if self.stop_signal is not None:
            run.replace("stop_signal", self.stop_signal)
        if self.labels:
            run.replace("labels", _merged(run.labels or {}, self.labels))
        if self.expose:
            run.replace("exposed_ports", _changed_set(run.exposed_ports, *_split(self.expose, ports, "ports")))
        if self.volumes:
            run.replace("volumes", _changed_set(run.volumes, *_split(self.volumes, volumes, "volumes")))
        if self.healthcheck is not None:
            self._apply_healthcheck(run)

    def _apply_healthcheck(self, run: ExecutionConfig) -> None:
        from layerstore_core.images.config.model import Healthcheck

        if not self.healthcheck:
            run.unset("healthcheck")
            return
        found = HealthcheckOptions.of(self.healthcheck)
        check = Healthcheck(test=found.test)
        for name in ("interval", "timeout", "start_period", "start_interval", "retries"):
            if value := getattr(found, name):
                setattr(check, name, value)
        run.healthcheck = check


def _environment(old: Iterable[str], changes: Mapping[str, str | None]) -> list[str]:
    """Return an environment with changes; a variable that is changed keeps its place."""
    left = dict(changes)
    found = []
    for variable in old:
        key = variable.partition("=")[0]
        if key not in changes:
            found.append(variable)
        elif (value := left.pop(key, None)) is not None:  # the second one of a name is dropped
            found.append(f"{key}={value}")
    return [*found, *(f"{key}={value}" for key, value in left.items() if value is not None)]


def _merged(old: Mapping[str, str], changes: Mapping[str, str | None]) -> dict[str, str]:
    return {key: value for key, value in {**old, **changes}.items() if value is not None}


def _changed_set(old: Mapping[str, object] | None, removed: Iterable[str], added: Iterable[str]) -> dict[str, object]:
    """Return a set as configs have it, an object with empty objects, without the removed and with the added keys."""
    gone = set(removed)
    left = {key: value for key, value in (old or {}).items() if key not in gone}
    return {**left, **{key: {} for key in added if key not in left}}


def _split(texts: Sequence[str], parse: Callable[[str], list[str]], what: str) -> tuple[list[str], list[str]]:
    """Return the values to remove, whose texts end in `-`, and those to add."""
    if isinstance(texts, str):
        raise TypeError(f"the {what} are a list, not {texts!r}")
    removed: list[str] = []
    added: list[str] = []
    for text in texts:
        if check_text(text, f"one of the {what}").endswith("-") and text != "-":
            removed += parse(text[:-1])
        else:
            added += parse(text)
    return removed, added


def _pairs(texts: Iterable[str]) -> dict[str, str | None]:
    """Return the keys of `KEY=VALUE` and `KEY-`, each with its value, or with `None` if it is to be removed."""
    found: dict[str, str | None] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals and not (text.endswith("-") and len(text) > 1):
            raise ValueError(f"{text[:80]!r} is no pair; write KEY=VALUE, or KEY- to remove the key")
        found.pop(key if equals else text[:-1], None)
        found[key if equals else text[:-1]] = value if equals else None
    return found


def _check_pairs(pairs: Mapping[str, str | None], what: str) -> None:
    if not isinstance(pairs, Mapping):
        raise TypeError(f"{what} is given by a mapping of names to values, not {pairs!r}")
    for key, value in pairs.items():
        if not check_text(key, f"the name of {what}").strip():
            raise ValueError(f"the name of {what} is empty")
        if "=" in key:
            raise ValueError(f"the name of {what} has an '=': {key[:80]!r}")
        if value is not None:
            check_text(value, f"the value of {what}")


def _instruction(word: str, key: str, value: str | None) -> str:
    return f"{word} {key}-" if value is None else f"{word} {key}={value}"
