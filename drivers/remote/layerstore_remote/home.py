"""The home at a server that has a store's layers: claimed once, and recognized at the start of each connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from layerstore_remote.claim import COMMON_MARK, Claim, Note, new_mark
from layerstore_remote.errors import OtherHome

if TYPE_CHECKING:
    from layerstore_remote.server import Server


class RemoteHome:
    """The home of one store at a server.

    Args:
        note: the store's note of it.
        adopt: whether to take a home that is not, or no longer, known to be this store's.
    """

    def __init__(self, note: Note, *, adopt: bool) -> None:
        self._note = note
        self._adopt = adopt

    def is_claimed(self) -> bool:
        """Return whether the store has claimed a home. Before that it has no layers.

        Raises:
            BadRecord: the note is damaged.
        """
        claim = self._note.read()
        return claim is not None and claim.complete

    def is_mark(self, layer_id: str) -> bool:
        """Return whether a layer of the server is no layer of the store, but a mark."""
        claim = self._note.read()
        return layer_id == COMMON_MARK or (claim is not None and layer_id == claim.mark)

    def recognize(self, exists: Callable[[str], bool], driver: str, what: str, address: str) -> None:
        """Check that a server has the home that the store has claimed, if it has claimed one.

        Args:
            exists: asks the server whether it has a layer.
            driver: the name of the server's driver; empty if it has not named it.
            what: the server's driver in words.
            address: the server's socket.

        Raises:
            OtherHome: it has another one.
            BadRecord: the note is damaged.
        """
        claim = self._note.read()
        if claim is None or not claim.complete or self._adopt:
            return
        if (driver and claim.driver and driver != claim.driver) or not exists(claim.mark):
            was = f"driver {claim.driver}" if claim.driver else "another home"
            where = f" in {claim.directory}" if claim.directory else ""
            raise OtherHome(
                f"the server at {address} has {what}, without the mark of this store: its layers are with {was}{where} "
                f"({self._note.path}). Start the server as it was, or name the right one with the option address; if "
                "the layers were moved to this server, give the option adopt once"
            )

    def claim(self, server: Server, flush: Callable[[], None]) -> None:
        """Claim the server's home for the store, if that was not done.

        Args:
            server: the server.
            flush: has the server's files on disk.

        Raises:
            OtherHome: the home is not free.
            BadRecord: the note is damaged.
        """
        if self.is_claimed() and not self._adopt:
            return
        with self._note.locked():
            claim = self._note.read()
            adopt, self._adopt = self._adopt, False
            if claim is not None and claim.complete and not adopt:
                return  # another process was faster
            if claim is not None and claim.complete and _exists(server, claim.mark):
                self._note.write(replace(claim, driver=server.facts.driver, directory=server.facts.directory))
                return
            # A claim that was interrupted goes on, if it had come to its own mark: it had found the home free before.
            if claim is None or claim.complete or not _exists(server, claim.mark):
                if not adopt:
                    self._require_free(server)
                facts = server.facts
                claim = Claim(new_mark(), False, facts.driver, facts.directory)
                self._note.write(claim)
            for mark in (claim.mark, COMMON_MARK):
                if not _exists(server, mark):
                    server.call("GraphDriver.Create", ID=mark, Parent="", MountLabel="", StorageOpt=None)
            flush()
            self._note.write(replace(claim, complete=True))

    @property
    def to_adopt(self) -> bool:
        """Whether a home is still to be taken because of the option `adopt`."""
        return self._adopt

    def require_own(self, server: Server) -> None:
        """Check, for a store without a claim, that the server's home has no layers of a store.

        Raises:
            OtherHome: it has: they may be those of this store, whose note was lost.
        """
        if self._adopt:
            return
        claim = self._note.read()
        if claim is not None and _exists(server, claim.mark):
            return  # its claim was interrupted
        if _exists(server, COMMON_MARK):
            raise self._taken(server)

    def _require_free(self, server: Server) -> None:
        self.require_own(server)
        if server.has("LayerIDs") and server.call("Layerstore.LayerIDs", long=True).texts("IDs"):
            raise self._taken(server)

    def _taken(self, server: Server) -> OtherHome:
        return OtherHome(
            f"the server at {server.address} ({server.facts.text}) has layers already, which are not known to be this "
            f"store's: each store needs a home of its own. Start a server with an empty root, or name another home; if "
            f"the layers are of this store, and {self._note.path} was lost, give the option adopt once"
        )


def _exists(server: Server, layer_id: str) -> bool:
    return server.call("GraphDriver.Exists", ID=layer_id, repeatable=True).get("Exists", bool, False)
