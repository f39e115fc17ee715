"""What `pull` and `push` report while they work: the states of blobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

#: `waiting`: nothing is done now. `elsewhere`: another process transfers it. `compressing`, `uploading`, `downloading`,
#: `unpacking`: it is being done. The others are the last state of a blob: `exists` says that it was there already,
#: `mounted` that the registry had it in another repository, `left` that it is not to be transferred, and `done` that it
#: was transferred.
State = Literal[
    "waiting", "elsewhere", "compressing", "uploading", "downloading", "unpacking", "exists", "mounted", "left", "done"
]

#: The states after which a blob has no other one.
LAST: Final[frozenset[State]] = frozenset(("exists", "mounted", "left", "done"))


@dataclass(frozen=True, slots=True)
class BlobEvent:
    """The state of one blob.

    Attributes:
        name: what the blob is called in all its events: its digest, or the diff ID of a layer whose blob is made.
        kind: what it is: `"layer"`, `"config"`, `"manifest"`, or `"blob"` for a blob of an artifact.
        state: the state.
        digest: its digest; empty while it is not known.
        done: how many bytes were processed in this state.
        size: how many there are in all; 0 if that is not known.
    """

    name: str
    kind: Literal["layer", "config", "manifest", "blob"]
    state: Literal[
        "waiting",
        "elsewhere",
        "compressing",
        "uploading",
        "downloading",
        "unpacking",
        "exists",
        "mounted",
        "left",
        "done",
    ]
    digest: str = ""
    done: int = 0
    size: int = 0


#: Is called with each event, by one thread at a time, and often: it has to be quick.
BlobProgress = Callable[[BlobEvent], None]
