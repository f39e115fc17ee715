"""`layerstore drivers`: list the installed drivers, and whether each works here."""

from __future__ import annotations

from typing import Any

import click

from layerstore_core.cli import output
from layerstore_core.cli.parameters import json_option
from layerstore_core.cli.session import Session
from layerstore_core.errors import LayerStoreError


@click.command()
@json_option
@click.pass_obj
def drivers(session: Session) -> None:
    """List the installed drivers, and whether each works here.

    "Here" means below this root and with the given options. A driver that does not work, or whose package is
    broken, is listed with the reason. The exit code is 0 all the same. A driver that an ordinary user can use in a
    user namespace only is tried in one; commands enter one by themselves.

    \b
    Example:
      layerstore drivers
    """
    config = session.config()
    if session.driver_options:
        from layerstore_core.driver.open import check_options

        check_options(config)
    from layerstore_core.driver.namespace import driver_needs_namespace, probe_in_namespace
    from layerstore_core.driver.probe import probe
    from layerstore_core.driver.registry import installed_drivers

    found: list[dict[str, Any]] = []
    for driver in installed_drivers():
        try:
            namespace = driver_needs_namespace(driver.name)
        except LayerStoreError:
            namespace = False  # the probe gives the reason
        result = probe_in_namespace(driver.name, config) if namespace else probe(driver.name, config)
        found.append(
            {
                "name": driver.name,
                "package": driver.distribution,
                "version": driver.version,
                "works": result.works,
                "user_namespace": namespace,
                "reason": result.reason,
            }
        )

    def lines() -> list[str]:
        rows = [("NAME", "PACKAGE", "VERSION", "WORKS HERE")]
        for driver in found:
            works = "yes" if driver["works"] else f"no: {driver['reason']}"
            if driver["works"] and driver["user_namespace"]:
                works = "yes, in a user namespace"
            rows.append((driver["name"], driver["package"], driver["version"], output.printable(works)))
        return output.columns(rows)

    session.answer({"drivers": found}, lines)
