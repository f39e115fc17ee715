"""Reports on images and stores: what is in them, what is wasted, and what differs.

- `document` makes the JSON document of an image, a comparison or a store: `docs/reference/report.md` has its schema.
- `markdown` makes a short text of a document, for pull requests.
- `page` makes an HTML page of a document: one file that needs nothing else.

All texts in a document are as they are in the image: who shows them escapes them.
"""
