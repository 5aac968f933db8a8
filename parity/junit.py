"""JUnit XML report, which continuous-integration systems read."""

import os
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree as ET

from jlstm._src.serialization import write
from parity import report


def write_junit(
    path: str | os.PathLike[str], outcomes: Sequence[report.Outcome], seconds: float, file: Mapping[str, Any] | None = None
) -> None:
    """Write one test case per parity case, and one failure per part of a model file that was not compared.

    The file is written under a temporary name beside its target and then renamed.

    Args:
        path: the file to write.
        outcomes: the cases that were run.
        seconds: how long the run took.
        file: for a model file, the result of `parity.model.facts`.

    Raises:
        OSError: the file cannot be written.
    """
    failed = [outcome for outcome in outcomes if not outcome.accepted]
    incomplete = dict(file["incomplete"]) if file else {}
    numbers = {
        "tests": str(len(outcomes) + len(incomplete)),
        "failures": str(len(failed) + len(incomplete)),
        "errors": "0",
        "time": f"{seconds:.3f}",
    }
    root = ET.Element("testsuites", numbers)
    suite = ET.SubElement(root, "testsuite", {"name": "parity"} | numbers)
    for outcome in outcomes:
        identity = {"classname": f"parity.{outcome.case.peer}.{outcome.comparison.dtype}", "name": outcome.case.name}
        case = ET.SubElement(suite, "testcase", identity)
        text = "\n".join(filter(None, (report.line(outcome), report.diagnosis(outcome))))
        if not outcome.accepted:
            diagnosis = outcome.comparison.diagnosis
            message = diagnosis.headline if diagnosis else "mended" if outcome.mended else outcome.comparison.verdict
            ET.SubElement(case, "failure", {"message": message, "type": outcome.comparison.verdict}).text = text
        elif outcome.case.known_bug:
            ET.SubElement(case, "system-out").text = text
    for name, reason in incomplete.items():
        case = ET.SubElement(suite, "testcase", {"classname": "parity.incomplete", "name": name})
        ET.SubElement(case, "failure", {"message": reason, "type": "incomplete"})
    ET.indent(root)
    write(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")
