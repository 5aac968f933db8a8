"""The report in the XML format that systems for continuous integration read, as JUnit writes it."""

import os
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from jlstm.io import write
from parity import report


def write_junit(
    path: str | os.PathLike[str], outcomes: Sequence[report.Outcome], seconds: float, file: Mapping[str, Any] | None = None
) -> None:
    """Write one test case for each case, and for what of a model's file was not compared; beside the file first, then renamed.

    Args:
        path: the file.
        outcomes: the cases that were run.
        seconds: how long that took.
        file: of a model's file, what `parity.model.facts` says of it.

    Raises:
        OSError: the file cannot be written.
    """
    failed = [outcome for outcome in outcomes if not outcome.accepted]
    left = dict(file["incomplete"]) if file else {}
    numbers = {
        "tests": str(len(outcomes) + len(left)),
        "failures": str(len(failed) + len(left)),
        "errors": "0",
        "time": f"{seconds:.3f}",
    }
    root = ET.Element("testsuites", numbers)
    suite = ET.SubElement(root, "testsuite", {"name": "parity"} | numbers)
    for outcome in outcomes:
        names = {"classname": f"parity.{outcome.case.peer}.{outcome.comparison.dtype}", "name": outcome.case.name}
        case = ET.SubElement(suite, "testcase", names)
        text = "\n".join(filter(None, (report.line(outcome), report.diagnosis(outcome))))
        if not outcome.accepted:
            diagnosis = outcome.comparison.diagnosis
            message = diagnosis.headline if diagnosis else "mended" if outcome.mended else outcome.comparison.verdict
            ET.SubElement(case, "failure", {"message": message, "type": outcome.comparison.verdict}).text = text
        elif outcome.case.known_bug:
            ET.SubElement(case, "system-out").text = text
    for name, why in left.items():
        case = ET.SubElement(suite, "testcase", {"classname": "parity.incomplete", "name": name})
        ET.SubElement(case, "failure", {"message": why, "type": "incomplete"})
    ET.indent(root)
    write(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
