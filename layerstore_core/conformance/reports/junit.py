"""The report as JUnit XML, for a build server.

JUnit knows no limited tests. They are skipped tests of the type "limited", with the reason, and never passed ones.
"""

from __future__ import annotations

from xml.etree import ElementTree as ET

from layerstore_core.conformance.outcomes.results import DriverResult, GroupResult, Run
from layerstore_core.conformance.reports import facts


def document(run: Run) -> str:
    """Return the report as XML."""
    suites = ET.Element("testsuites")
    for driver in run.drivers:
        for group in driver.groups:
            _suite(suites, run, driver, group)
    ET.indent(suites)
    return ET.tostring(suites, encoding="unicode", xml_declaration=True) + "\n"


def _suite(suites: ET.Element, run: Run, driver: DriverResult, group: GroupResult) -> None:
    suite = ET.SubElement(
        suites,
        "testsuite",
        name=f"{driver.driver}.{group.group}",
        tests=str(len(group.tests)),
        failures=str(group.count("failed")),
        skipped=str(group.count("limited") + group.count("not tried")),
        time=f"{sum(test.seconds for test in group.tests):.3f}",
    )
    properties = ET.SubElement(suite, "properties")
    for name, value in (
        ("driver", f"{facts.title(driver)}: {driver.summary}"),
        ("group", f"{group.verdict}; {facts.counts(group) or 'all passed'}"),
        ("means", run.means(driver)),
        ("could declare", "; ".join(facts.could_declare(driver))),
    ):
        if value:
            ET.SubElement(properties, "property", name=name, value=_printable(value))
    for test in group.tests:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"{driver.driver}.{group.group}",
            name=_printable(test.name),
            time=f"{test.seconds:.3f}",
        )
        if test.outcome == "failed":
            failure = ET.SubElement(case, "failure", message=_printable(test.demand))
            places = "\n".join(test.where)
            kept = f"\n\nkept: {test.kept}\nto remove it: {test.removal}" if test.kept else ""
            failure.text = _printable(f"{test.demand}\n{test.loss}\n\n{test.message}\n\nwhere to look:\n{places}{kept}")
        elif test.outcome in ("limited", "not tried"):
            ET.SubElement(case, "skipped", type=test.outcome, message=_printable(f"{test.outcome}: {test.reason}"))
        if test.notes:
            ET.SubElement(case, "system-out").text = _printable("\n".join(test.notes))


def _printable(text: str) -> str:
    """Return text without the characters that XML does not allow."""
    return "".join(
        c if c in "\n\t" or (c >= " " and not "\ud800" <= c <= "\udfff" and c not in "\ufffe\uffff") else "\ufffd"
        for c in text
    )
