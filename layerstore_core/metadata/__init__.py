"""What is known of layers and writable layers, on disk: Docker's layerdb and image records, and our pins beside them."""

from layerstore_core.errors import BadRecord
from layerstore_core.metadata.buildkit import BuildKitCache
from layerstore_core.metadata.deletion import Removing
from layerstore_core.metadata.dockerlock import DockerLock
from layerstore_core.metadata.imagedb import ImageDB
from layerstore_core.metadata.layerdb import LayerDB
from layerstore_core.metadata.locks import Counter, LocksUnavailable, RootLocks
from layerstore_core.metadata.pins import Pins
from layerstore_core.metadata.quarantined import Quarantined
from layerstore_core.metadata.records import LayerRecord, MountRecord, check_mount_name
from layerstore_core.metadata.transaction import DeadTransaction, Transaction

__all__ = [
    "BadRecord",
    "BuildKitCache",
    "Counter",
    "DeadTransaction",
    "DockerLock",
    "ImageDB",
    "LayerDB",
    "LayerRecord",
    "LocksUnavailable",
    "MountRecord",
    "Pins",
    "Quarantined",
    "Removing",
    "RootLocks",
    "Transaction",
    "check_mount_name",
]
