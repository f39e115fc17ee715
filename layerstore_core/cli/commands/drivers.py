"""`layerstore drivers`: list the installed drivers, and whether each works here."""

from __future__ import annotations

import json
from textwrap import wrap
from typing import Any

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerStoreError


@click.command()
@click.option("--options", "of", metavar="NAME", help="List the options of one driver instead.")
@json_option
@click.pass_obj
def drivers(session: Session, of: str | None) -> None:
    """List the installed drivers, and whether each works here.

    "Here" means below this root and with the given options. A driver that does not work, or whose package is
    broken, is listed with the reason. The exit code is 0 all the same. A driver that an ordinary user can use in a
    user namespace only is tried in one; commands enter one by themselves. CONTRACT is the version of the driver
    contract that the driver was written for. CONFORMANCE is what a report of the conformance kit says that came with
    the package.

    \b
    Examples:
      layerstore drivers
      layerstore drivers --options overlay2
    """
    if of is not None:
        _list_options(session, of)
        return
    config = session.config()
    if session.driver_options:
        from layerstore_core.driver.open import check_options

        check_options(config)
    from layerstore_core.conformance.outcomes.shipped import shipped_report
    from layerstore_core.driver.namespace import driver_needs_namespace, probe_in_namespace
    from layerstore_core.driver.probe import probe
    from layerstore_core.driver.registry import contract, installed_drivers, load_driver

    found: list[dict[str, Any]] = []
    for driver in installed_drivers():
        try:
            namespace = driver_needs_namespace(driver.name)
        except LayerStoreError:
            namespace = False  # the probe gives the reason
        try:
            version = contract(load_driver(driver.name), driver.name)
        except LayerStoreError:
            version = None  # likewise
        report = shipped_report(driver)
        result = probe_in_namespace(driver.name, config) if namespace else probe(driver.name, config)
        found.append(
            {
                "name": driver.name,
                "package": driver.distribution,
                "version": driver.version,
                "contract": version,
                "works": result.works,
                "user_namespace": namespace,
                "reason": result.reason,
                "conformance": None if report is None else report._asdict(),
            }
        )

    def lines() -> list[str]:
        rows = [("NAME", "PACKAGE", "VERSION", "CONTRACT", "CONFORMANCE", "WORKS HERE")]
        for driver in found:
            works = "yes" if driver["works"] else f"no: {driver['reason']}"
            if driver["works"] and driver["user_namespace"]:
                works = "yes, in a user namespace"
            number = "-" if driver["contract"] is None else str(driver["contract"])
            report = output.printable(_in_words(driver["conformance"], driver["version"]))
            rows.append((driver["name"], driver["package"], driver["version"], number, report, output.printable(works)))
        return output.columns(rows)

    session.answer({"drivers": found}, lines)


def _in_words(report: dict[str, Any] | None, version: str) -> str:
    """Return what a package's report says, in a few words."""
    if report is None:
        return "no report"
    if report["verdict"] == "damaged":
        return f"damaged: {report['summary']}"
    other = f", version {report['version']}" if report["version"] != version else ""
    return f"{report['summary']} (core {report['core']}, {report['date']}{other})"


def _list_options(session: Session, name: str) -> None:
    from layerstore_core.driver.options import driver_options

    options = driver_options(name)

    def lines() -> list[str]:
        if not options:
            return [f"driver {name} has no options"]
        rows = [("NAME", "DEFAULT", "UNIT", "TYPE")]
        for option in options:
            default = "(required)" if option.required else "(none)" if option.default is None else option.default
            shown = json.dumps(default) if isinstance(default, bool) else str(default)
            rows.append((option.name, shown, option.unit or "-", option.type))
        head, *table = map(output.printable, output.columns(rows))
        described = [head]
        for option, line in zip(options, table, strict=True):
            text = option.description
            if option.others:
                text = f"{text} Also: {', '.join(option.others)}.".lstrip()
            described += [line, *(f"    {part}" for part in wrap(output.printable(text), width=100))]
        return described

    session.answer({"driver": name, "options": [option._asdict() for option in options]}, lines)
