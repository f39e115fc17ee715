"""The page of a report: one HTML file that needs no network and no other file.

- `html` puts the template, the style, the script and the data together.
- `data` makes the data of a document: texts that mislead no reader, and no more than the page should have.
- `fold` folds small files of a large tree.

The template, the style and the script are files beside these modules. `make report-page` builds the script of the
directory "source", and collects the licenses of what it has of others.
"""
