"""The config of an image as a model: what to run, for which platform, which layers, and how they were made.

The fields are those of the OCI image specification (image-spec, `config.md`) and those that Docker adds (moby,
`image/image.go` and `api/types/container/config.go`). A key that the model does not know stays where it is.

The bytes of a config are its identity: a config that was read and not changed gives the same bytes again. A changed one
is written without white space. Its keys are in the order in which they were read; new keys follow in the order of the
fields here, and keys that the model does not know come last, in the order in which they were set.

Reading an image needs no model: `ConfigDocument` has the parsed JSON, and loads no pydantic.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Final, Self, cast

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    ValidationInfo,
    model_serializer,
    model_validator,
)

from layerstore_core.base.arguments import check_type
from layerstore_core.base.digests import DiffID
from layerstore_core.errors import InvalidImage
from layerstore_core.images.formats.documents import ConfigDocument, parse_json, values_in
from layerstore_core.images.formats.platforms import Platform
from layerstore_core.records.imagedb import MAX_CONFIG

#: The most values (numbers, strings, lists and objects, counted by commas and brackets) of a config that is to be
#: changed. A model takes about a KiB for each object. The longest configs of real images have some thousands.
MAX_MODEL_VALUES: Final = 100_000
#: The key in the context of pydantic that says that the names are those of the JSON.
_READING: Final = "reading"
_SHOWN: Final = 5


def _as_list(value: Any) -> Any:
    """Return a single string as a list: Docker reads both (moby, api/types/strslice)."""
    return [value] if isinstance(value, str) else value


#: A command: a list of words; a single string is read as one word.
Words = Annotated[list[str], BeforeValidator(_as_list)]


class ConfigPart(BaseModel):
    """An object of a config, which keeps the order of its keys, and the keys that it does not know.

    Attributes:
        model_config: the settings of pydantic.
    """

    model_config: ClassVar[ConfigDict] = ConfigDict(
        extra="allow", strict=True, populate_by_name=True, protected_namespaces=()
    )
    _order: tuple[str, ...] = PrivateAttr(default=())
    _unknown: dict[str, Any] = PrivateAttr(default_factory=dict)

    @model_validator(mode="wrap")
    @classmethod
    def _keep_order(cls, value: Any, handler: Callable[[Any], Self], info: ValidationInfo) -> Self:
        """Remember the order of the keys, and keep a key that looks like the Python name of a field."""
        if not (isinstance(value, Mapping) and info.context and info.context.get(_READING)):
            return handler(value)
        ours = {name for name, field in cls.model_fields.items() if field.alias not in (None, name)}
        made = handler({key: item for key, item in value.items() if key not in ours})
        made.keep_keys(tuple(value), {key: item for key, item in value.items() if key in ours})
        return made

    def keep_keys(self, order: tuple[str, ...], unknown: Mapping[str, Any]) -> None:
        """Set the order of the keys, and keys that are written besides the fields."""
        self._order = order
        self._unknown = dict(unknown)

    def unset(self, field: str) -> None:
        """Remove a field: its key is not written."""
        setattr(self, field, None)
        self.model_fields_set.discard(field)

    def replace(self, field: str, value: Any) -> None:
        """Set a field; an empty value removes it, and leaves one alone that is empty already."""
        if value:
            setattr(self, field, value)
        elif getattr(self, field):
            self.unset(field)

    @model_serializer(mode="wrap")
    def _in_order(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        found = {**handler(self), **self._unknown}
        return {**{key: found[key] for key in self._order if key in found}, **found}


class Healthcheck(ConfigPart):
    """How to find out whether a container works (Docker's `HEALTHCHECK`). Durations are in nanoseconds.

    Attributes:
        test: the command: `["NONE"]`, `["CMD", word, …]` or `["CMD-SHELL", line]`; empty for the base image's.
        interval: the time between two checks.
        timeout: how long a check may take.
        start_period: how long failures do not count after the start.
        start_interval: the time between two checks in that period.
        retries: how many failures in a row make a container unhealthy.
    """

    test: Words | None = Field(None, alias="Test")
    interval: int | None = Field(None, alias="Interval")
    timeout: int | None = Field(None, alias="Timeout")
    start_period: int | None = Field(None, alias="StartPeriod")
    start_interval: int | None = Field(None, alias="StartInterval")
    retries: int | None = Field(None, alias="Retries")


class ExecutionConfig(ConfigPart):
    """What a container of the image runs, and how: the object `config` of an image's config.

    Attributes:
        user: the user, `NAME|UID[:GROUP|GID]`.
        exposed_ports: the ports, such as `80/tcp`; the values are empty objects.
        env: the environment, each `NAME=VALUE`.
        entrypoint: the first words of the command.
        cmd: the words after the entrypoint, which a user may replace.
        volumes: the paths of volumes; the values are empty objects.
        working_dir: the directory in which the command runs.
        labels: texts for programs and people, by name.
        stop_signal: the signal that ends a container, such as `SIGTERM`.
        args_escaped: whether the command is one line that is quoted already (Windows).
        memory: an old limit, in bytes.
        memory_swap: an old limit, in bytes.
        cpu_shares: an old weight.
        healthcheck: how to find out whether a container works.
        on_build: instructions for builds that use this image as their base.
        shell: the shell of instructions in shell form.
    """

    user: str | None = Field(None, alias="User")
    exposed_ports: dict[str, Any] | None = Field(None, alias="ExposedPorts")
    env: list[str] | None = Field(None, alias="Env")
    entrypoint: Words | None = Field(None, alias="Entrypoint")
    cmd: Words | None = Field(None, alias="Cmd")
    volumes: dict[str, Any] | None = Field(None, alias="Volumes")
    working_dir: str | None = Field(None, alias="WorkingDir")
    labels: dict[str, str] | None = Field(None, alias="Labels")
    stop_signal: str | None = Field(None, alias="StopSignal")
    args_escaped: bool | None = Field(None, alias="ArgsEscaped")
    memory: int | None = Field(None, alias="Memory")
    memory_swap: int | None = Field(None, alias="MemorySwap")
    cpu_shares: int | None = Field(None, alias="CpuShares")
    healthcheck: Healthcheck | None = Field(None, alias="Healthcheck")
    on_build: list[str] | None = Field(None, alias="OnBuild")
    shell: Words | None = Field(None, alias="Shell")


class RootFS(ConfigPart):
    """The layers of an image.

    Attributes:
        type: always `"layers"`.
        diff_ids: their diff IDs, the base first.
    """

    type: str | None = None
    diff_ids: list[str] | None = None


class HistoryStep(ConfigPart):
    """A step of an image's build, as its config has it.

    Attributes:
        created: when, in RFC 3339.
        author: who.
        created_by: the command.
        comment: a comment.
        empty_layer: whether the step made no layer.
    """

    created: str | None = None
    author: str | None = None
    created_by: str | None = None
    comment: str | None = None
    empty_layer: bool | None = None


class ImageConfig(ConfigPart):
    """An image's config, to be read and changed. Assign to its fields, or change their lists and dictionaries in place.

    Attributes:
        created: when the image was made, in RFC 3339.
        author: who made it.
        architecture: Go's name of the processor architecture, such as `amd64`.
        os: the operating system, such as `linux`.
        os_version: its version, for Windows.
        os_features: features that it must have, for Windows.
        variant: the variant of the architecture, such as `v7`.
        config: what a container runs.
        rootfs: the layers.
        history: the steps of the build, the first one first.
        docker_version: the version of the Docker that made it.
        container: the ID of the container that it was made from.
        container_config: the configuration of that container.
    """

    created: str | None = None
    author: str | None = None
    architecture: str | None = None
    os: str | None = None
    os_version: str | None = Field(None, alias="os.version")
    os_features: list[str] | None = Field(None, alias="os.features")
    variant: str | None = None
    config: ExecutionConfig | None = None
    rootfs: RootFS | None = None
    history: list[HistoryStep] | None = None
    docker_version: str | None = None
    container: str | None = None
    container_config: ExecutionConfig | None = None
    _source: bytes | None = PrivateAttr(default=None)
    _as_read: bytes = PrivateAttr(default=b"")

    @classmethod
    def parse(cls, data: bytes, where: str = "the image's config") -> Self:
        """Read a config from its JSON.

        Args:
            data: the bytes.
            where: what they are, for messages.

        Raises:
            InvalidImage: they are no image's config, or one that is too large to be changed.
        """
        check_type(data, bytes, "the bytes of an image's config")
        if len(data) > MAX_CONFIG or values_in(data) > MAX_MODEL_VALUES:
            raise InvalidImage(
                f"{where} is too large to be changed: {len(data)} bytes, about {values_in(data)} values; at most "
                f"{MAX_CONFIG} bytes and {MAX_MODEL_VALUES} values are allowed"
            )
        made = cls._of(parse_json(data, where), where)
        made.keep_bytes(data, where)
        return made

    def keep_bytes(self, data: bytes, where: str) -> None:
        """Set the bytes for the config as it is now.

        Raises:
            InvalidImage: they are no image's config.
        """
        self._as_read = self._serialised(where)
        self._source = data
        ConfigDocument.parse(data, where)

    @classmethod
    def of(cls, document: ConfigDocument) -> Self:
        """Read the config of an image, such as `image.config`.

        Raises:
            InvalidImage: as for `parse`.
        """
        check_type(document, ConfigDocument, "the config of an image, as Image.config has it")
        return cls.parse(document.data, f"the config of image {document.image_id}")

    @classmethod
    def of_base(cls, document: ConfigDocument) -> Self:
        """Read the config of an image that another one is made from.

        What Docker has noted about its build of the base is left out: `container` and `container_config`, which are of
        the last step's container, and `docker_version`. They would be wrong for the new image. BuildKit leaves them
        out, too, and Docker's commit writes those of its own container.

        Raises:
            InvalidImage: as for `parse`.
        """
        made = cls.of(document)
        for field in ("container", "container_config", "docker_version"):
            made.unset(field)
        return made

    @classmethod
    def scratch(cls, platform: Platform | None = None) -> Self:
        """Return the config of an image that has no layers yet.

        Args:
            platform: the platform of the image; `None` for the one of this machine.
        """
        found = platform or Platform.of_this_host()
        made = cls(
            architecture=found.architecture,
            os=found.os,
            config=ExecutionConfig(),
            rootfs=RootFS(type="layers", diff_ids=[]),
            history=[],
        )
        if found.variant:
            made.variant = found.variant
        return made

    @property
    def execution(self) -> ExecutionConfig:
        """The field `config`, which is created if it is missing."""
        if self.config is None:
            self.config = ExecutionConfig()
        return self.config

    @property
    def diff_ids(self) -> tuple[DiffID, ...]:
        """The diff IDs of the layers, the base first.

        Raises:
            ValueError: one is no digest.
        """
        found = (self.rootfs.diff_ids if self.rootfs else None) or ()
        return tuple(map(DiffID, found))

    def to_bytes(self) -> bytes:
        """Return the JSON: what was read, if nothing was changed.

        Raises:
            InvalidImage: a field has a value that no config may have.
        """
        return self.to_document().data

    def to_document(self, where: str = "the new config") -> ConfigDocument:
        """Return the config as an image has it, with its bytes and its ID.

        Args:
            where: what it is, for messages.

        Raises:
            InvalidImage: a field has a value that no config may have, or the config is too large.
        """
        data = self._serialised(where)
        if self._source is not None and data == self._as_read:
            return ConfigDocument.parse(self._source, where)
        document = parse_json(data, where)
        self._of(document, where)  # fields that were set are not validated before
        if len(data) > MAX_CONFIG or values_in(data) > MAX_MODEL_VALUES:
            raise InvalidImage(
                f"{where} has {len(data)} bytes and about {values_in(data)} values; at most {MAX_CONFIG} bytes and "
                f"{MAX_MODEL_VALUES} values are allowed"
            )
        return ConfigDocument.of(data, document, where)

    @classmethod
    def _of(cls, document: Any, where: str) -> Self:
        try:
            return cls.model_validate(document, context={_READING: True})
        except ValidationError as error:
            raise InvalidImage(f"{where} is not usable: {_sentences(error)}") from None
        except RecursionError:
            raise InvalidImage(f"{where} is nested too deep") from None

    def _serialised(self, where: str) -> bytes:
        try:
            found = self.model_dump(by_alias=True, exclude_unset=True, warnings=False)
            text = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        except RecursionError:
            raise InvalidImage(f"{where} is nested too deep") from None
        except (ValueError, TypeError) as error:
            raise InvalidImage(f"{where} cannot be written as JSON: {str(error)[:200]}") from None
        # A lone surrogate is not UTF-8. JSON can hold it as an escape, which is what this error handler writes.
        return text.encode("utf-8", "backslashreplace")


def _sentences(error: ValidationError) -> str:
    """Return what pydantic found: the keys of each value, and what is wrong with it."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = [f"{_path(item['loc'])}: {item['msg']}" for item in found[:_SHOWN]]
    return "; ".join(texts) + (f"; and {len(found) - _SHOWN} more" if len(found) > _SHOWN else "")


def _path(keys: tuple[int | str, ...]) -> str:
    return ".".join(str(cast("object", key))[:80] for key in keys) or "the document"
