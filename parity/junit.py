"""The report in the XML format that systems for continuous integration read, as JUnit writes it."""

import os
from collections.abc import Sequence
from xml.etree import ElementTree as ET

from jlstm.io import write
from parity import report


def write_junit(path: str | os.PathLike[str], outcomes: Sequence[report.Outcome], seconds: float) -> None:
    """Write one test case for each case; beside the file first, then renamed.

    Args:
        path: the file.
        outcomes: the cases that were run.
        seconds: how long that took.

    Raises:
        OSError: the file cannot be written.
    """
    failed = [outcome for outcome in outcomes if not outcome.accepted]
    numbers = {"tests": str(len(outcomes)), "failures": str(len(failed)), "errors": "0", "time": f"{seconds:.3f}"}
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
    ET.indent(root)
    write(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
