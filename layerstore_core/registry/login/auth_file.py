"""A file with credentials: Docker's `config.json`, or podman's `auth.json` (containers-auth.json(5)).

Both have the same form: `{"auths": {"HOST": {"auth": "<base64 of USER:PASSWORD>"}}}`, and may name programs that keep
credentials: `credHelpers`, by host, and `credsStore`, for all hosts. Keys of podman may have a repository after the
host.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from layerstore_core.base.descriptors import Descriptor
from layerstore_core.errors import ConfigError
from layerstore_core.log import logger
from layerstore_core.registry.files.servers import names_of
from layerstore_core.registry.login.helpers import Helper
from layerstore_core.registry.login.model import HUB_KEY, Credentials, host_in, keys_of

_LIMIT: Final = 4 << 20
_MODE: Final = 0o600
_READABLE_BY_ALL: Final = 0o004
#: The files of which it has been said that all users may read them.
_warned: Final[set[Path]] = set()

Document = dict[str, Any]


class AuthFile:
    """A file with credentials. It is read when it is needed, each time.

    Args:
        path: the file; it need not exist.
        docker: whether it is Docker's, which has another key for Docker Hub.
    """

    def __init__(self, path: Path, *, docker: bool = False) -> None:
        self.path = path
        self._docker = docker

    def find(self, host: str, repository: str = "") -> Credentials | None:
        """Return the credentials for a repository; `None` if the file has none.

        Raises:
            ConfigError: the file is damaged, or a program that it names cannot be used.
        """
        document = self._read()
        if document is None:
            return None
        helper = self._helper_for(document, host)
        if helper is not None:
            return helper.get(host)
        entries = _by_host(self._auths(document))
        whole = {*names_of(host), HUB_KEY}
        store = self._store(document)
        for key in keys_of(host, repository):
            if store is not None and key in whole:
                if (found := store.get(host)) is not None:
                    return found
                store = None
            if (found := self._decoded(key, entries.get(key))) is not None:
                self._warn_if_readable()
                return found
        return None

    def hosts(self) -> list[str]:
        """Return the registries that it names; errors as from `find`."""
        document = self._read() or {}
        return [
            names_of(host_in(key).partition("/")[0])[0] for key in {**self._auths(document), **self._helpers(document)}
        ]

    def has(self, host: str) -> bool:
        """Return whether it has an entry for a registry, or names a program for it; errors as from `find`."""
        document = self._read()
        if document is None:
            return False
        entries = _by_host(self._auths(document))
        return self._helper_for(document, host) is not None or any(entries.get(key) for key in keys_of(host))

    def store(self, host: str, credentials: Credentials) -> str:
        """Keep credentials, in the program that the file names, or in the file itself.

        Returns:
            Where they are: the file, or the program.

        Raises:
            ConfigError: as from `find`.
            OSError: the file cannot be written. It is unchanged then.
        """
        key = HUB_KEY if self._docker and len(names_of(host)) > 1 else names_of(host)[0]
        document = self._read() or {}
        helper = self._helper_for(document, host) or self._store(document)
        entry: Document = {}
        if helper is not None:
            helper.store(host, credentials)
        else:
            secret = "" if credentials.identity_token else credentials.password
            entry["auth"] = base64.b64encode(f"{credentials.username}:{secret}".encode()).decode()
            if credentials.identity_token:
                entry["identitytoken"] = credentials.identity_token

        def change(changed: Document) -> None:
            for old in _keys_for(changed["auths"], host):
                del changed["auths"][old]
            changed["auths"][key] = entry

        self._change(change)
        return str(helper) if helper is not None else str(self.path)

    def erase(self, host: str) -> list[str]:
        """Remove the credentials for a registry; those for single repositories stay.

        Returns:
            Where there were some: the file, the program.

        Raises:
            ConfigError, OSError: as from `store`.
        """
        document = self._read()
        if document is None:
            return []
        done = []
        helper = self._helper_for(document, host) or self._store(document)
        if helper is not None and helper.erase(host):
            done.append(str(helper))
        entries = self._auths(document)
        if keys := _keys_for(entries, host):

            def change(changed: Document) -> None:
                for key in keys:
                    changed["auths"].pop(key, None)

            self._change(change)
            if any(entries[key] for key in keys):
                done.append(str(self.path))
        return done

    def erase_all(self) -> list[str]:
        """Remove all credentials, of all registries and repositories; result and errors as for `erase`."""
        document = self._read()
        if document is None:
            return []
        done = []
        names = dict.fromkeys([*self._helpers(document).values(), *filter(None, [self._store_name(document)])])
        for helper in (Helper(name, str(self.path)) for name in names):
            erased = [helper.erase(host_in(key)) for key in helper.hosts()]
            done += [str(helper)] if any(erased) else []
        entries = self._auths(document)
        if entries:
            self._change(lambda changed: changed.__setitem__("auths", {}))
            if any(entries.values()):
                done.append(str(self.path))
        return done

    def _read(self) -> Document | None:
        """Return the whole document; `None` if there is no file."""
        try:
            with open(self.path, "rb") as file:
                text = file.read(_LIMIT + 1)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if isinstance(error, PermissionError) and not os.path.exists(self.path):
                # It is in a directory that this user may not enter: HOME is another user's, as in some containers.
                return None
            raise ConfigError(
                f"{self.path}: the credentials in it cannot be read: {error.strerror}; make it a file that only this "
                "user may read and write (chmod 600), or remove it"
            ) from None
        if len(text) > _LIMIT:
            raise self._damaged(f"it is longer than {_LIMIT >> 20} MiB")
        try:
            found = json.loads(text) if text.strip() else {}
        except json.JSONDecodeError as error:  # its message quotes nothing of the file
            raise self._damaged(f"it is not JSON: {error.msg} (at line {error.lineno}, column {error.colno})") from None
        except (ValueError, RecursionError):
            raise self._damaged("it is not JSON: not UTF-8, or nested too deeply") from None
        if not isinstance(found, dict):
            raise self._damaged("it is not a JSON object")
        return found

    def _damaged(self, what: str) -> ConfigError:
        return ConfigError(f"{self.path}: {what}; correct it, or remove it and log in again (layerstore login HOST)")

    def _auths(self, document: Document) -> dict[str, Document]:
        auths = document.get("auths")
        if auths is None:
            return {}
        if not isinstance(auths, dict) or not all(isinstance(entry, dict | None) for entry in auths.values()):
            raise self._damaged("'auths' is not an object with an object for each registry")
        return {key: entry or {} for key, entry in auths.items()}

    def _helpers(self, document: Document) -> dict[str, str]:
        helpers = document.get("credHelpers")
        if helpers is None:
            return {}
        if not isinstance(helpers, dict) or not all(isinstance(name, str) for name in helpers.values()):
            raise self._damaged("'credHelpers' is not an object with a name for each registry")
        return {key: name for key, name in helpers.items() if name}

    def _store_name(self, document: Document) -> str:
        name = document.get("credsStore") or ""
        if not isinstance(name, str):
            raise self._damaged("'credsStore' is not a name")
        return name

    def _helper_for(self, document: Document, host: str) -> Helper | None:
        helpers = self._helpers(document)
        name = next((helpers[key] for key in keys_of(host) if key in helpers), None)
        return Helper(name, str(self.path)) if name else None

    def _store(self, document: Document) -> Helper | None:
        name = self._store_name(document)
        return Helper(name, str(self.path)) if name else None

    def _decoded(self, key: str, entry: Document | None) -> Credentials | None:
        """Return the credentials in an entry; `None` if it is empty, as where a program has them."""
        if not entry:
            return None
        values = [entry.get(name) or "" for name in ("auth", "username", "password", "identitytoken")]
        if not all(isinstance(value, str) for value in values):
            raise self._damaged(f"the entry of {key} has a value that is not a text")
        auth, username, password, token = values
        if auth:
            try:
                text = base64.b64decode(auth, validate=True).decode()
            except (binascii.Error, UnicodeDecodeError):
                raise self._damaged(f"the entry of {key} is not base64 of USER:PASSWORD") from None
            username, colon, password = text.partition(":")
            if not colon:
                raise self._damaged(f"the entry of {key} is not base64 of USER:PASSWORD")
            password = password.strip("\0")
        if not (username or password or token):
            return None
        return Credentials(
            username=username, password="" if token else password, identity_token=token, source=str(self.path)
        )

    def _warn_if_readable(self) -> None:
        with suppress(OSError):
            if self.path not in _warned and self.path.stat().st_mode & _READABLE_BY_ALL:
                _warned.add(self.path)
                logger.warning("all users may read the credentials in {}; 'chmod 600' changes that", self.path)

    def _change(self, change: Callable[[Document], None]) -> None:
        """Change the document, which has `auths`, in the file as a whole: other programs see the old or the new one."""
        target = Path(os.path.realpath(self.path))
        os.makedirs(target.parent, mode=0o700, exist_ok=True)
        with _locked(target.parent):
            document = self._read() or {}
            document["auths"] = self._auths(document)
            change(document)
            # One name, so that the next change removes what a killed one left. Others cannot read it.
            new = target.parent / f".{target.name}.layerstore"
            with suppress(FileNotFoundError):
                os.unlink(new)
            try:
                _write(new, json.dumps(document, indent="\t").encode() + b"\n", _owner(target))
                os.replace(new, target)
            except BaseException as error:
                with suppress(OSError):
                    os.unlink(new)
                if isinstance(error, OSError):
                    error.filename, error.filename2 = str(self.path), None
                raise


def _owner(path: Path) -> tuple[int, int] | None:
    """Return the owner of a file; `None` if there is no such file."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_uid, status.st_gid


def _write(path: Path, content: bytes, owner: tuple[int, int] | None) -> None:
    """Write a new file that its owner alone may read. root keeps the owner of another user's file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    with Descriptor(os.open, path, flags, _MODE) as fd:
        os.fchmod(fd, _MODE)
        if owner is not None and owner != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):
                os.fchown(fd, *owner)
        while content:
            content = content[os.write(fd, content) :]
        os.fsync(fd)


@contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Let one process at a time change the files of a directory, where its file system can lock."""
    with Descriptor(os.open, directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC) as fd:
        with suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_EX)
        yield


def _by_host(auths: dict[str, Document]) -> dict[str, Document]:
    """Return entries by host, or host and repository; an entry whose key is not a URL goes before one whose key is."""
    found = {host_in(key): entry for key, entry in auths.items() if host_in(key) != key}
    return {**found, **auths}


def _keys_for(auths: dict[str, Document], host: str) -> list[str]:
    """Return the keys of a registry's entries, without those for single repositories."""
    names = names_of(host)
    return [key for key in auths if key in names or (host_in(key) != key and host_in(key) in names)]
