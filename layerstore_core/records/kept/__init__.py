"""What belongs to images and Docker's records have no place for.

- `documents` has the files: manifests, indexes and artifacts, and which image or name each belongs to.
- `origin` is one such record.
- `names_limit` bounds the origins of all names.
- `survey` has all of them, and which documents they need.
"""

from layerstore_core.records.kept.documents import MAX_DOCUMENT, MAX_DOCUMENTS, KeptDocuments
from layerstore_core.records.kept.names_limit import fit_names
from layerstore_core.records.kept.origin import NameOrigins, Origin, Referrer, digest_of, is_shallow
from layerstore_core.records.kept.survey import Survey

__all__ = [
    "MAX_DOCUMENT",
    "MAX_DOCUMENTS",
    "KeptDocuments",
    "NameOrigins",
    "Origin",
    "Referrer",
    "Survey",
    "digest_of",
    "fit_names",
    "is_shallow",
]
