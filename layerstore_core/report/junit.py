"""The results of rules as JUnit XML, which systems for continuous integration show."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from layerstore_core.report.rules import RuleResult
from layerstore_core.text import printable


def junit(image: str, results: Sequence[RuleResult]) -> bytes:
    """Return a document with one test for each rule.

    Args:
        image: the name of the image. What XML cannot have, such as control characters, is escaped as in messages.
        results: the results.
    """
    failed = sum(not one.passed for one in results)
    counts = {"tests": str(len(results)), "failures": str(failed), "errors": "0", "skipped": "0"}
    suites = ElementTree.Element("testsuites", counts)
    suite = ElementTree.SubElement(suites, "testsuite", {"name": f"layerstore report {printable(image)}", **counts})
    for one in results:
        case = {"classname": f"layerstore.report.{one.rule.name}", "name": printable(one.name), "time": "0"}
        element = ElementTree.SubElement(suite, "testcase", case)
        if not one.passed:
            ElementTree.SubElement(element, "failure", {"type": "rule", "message": printable(one.line)})
    ElementTree.indent(suites)
    text: str = ElementTree.tostring(suites, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'.encode()
