"""What is known of layers and writable layers, on disk: Docker's layerdb, and our pins beside it."""

from layerstore_core.metadata.layerdb import LayerDB, Removing
from layerstore_core.metadata.pins import Pins
from layerstore_core.metadata.records import BadRecord, LayerRecord, MountRecord, check_mount_name
from layerstore_core.metadata.transaction import Transaction

__all__ = [
    "BadRecord",
    "LayerDB",
    "LayerRecord",
    "MountRecord",
    "Pins",
    "Removing",
    "Transaction",
    "check_mount_name",
]
