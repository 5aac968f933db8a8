"""The JUnit report for continuous integration."""

from xml.etree import ElementTree as ET

from outcomes import several
from parity.junit import write_junit


def test_each_case_is_a_test_case_and_a_failure_says_why(tmp_path):
    """The diagnosis is the failure's message. A known bug of the peer is no failure, and keeps its reason."""
    write_junit(tmp_path / "report.xml", several(), 12.5)
    root = ET.parse(tmp_path / "report.xml").getroot()
    (suite,) = root
    assert (root.tag, suite.tag, suite.get("name")) == ("testsuites", "testsuite", "parity")
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors"), suite.get("time")) == ("4", "1", "0", "12.500")
    cases = list(suite)
    assert [case.get("classname") for case in cases[:3]] == [
        "parity.keras.float32",
        "parity.keras.float64",
        "parity.other.float64",
    ]
    assert [len(case) for case in cases] == [0, 1, 1, 0]
    (failure,) = cases[1]
    assert (failure.tag, failure.get("type")) == ("failure", "fail")
    assert failure.get("message").startswith("precision: ")
    assert "worst: ys at batch " in failure.text
    assert cases[1].get("name") == "stack2 <b>bold</b> & wrong"
    assert "theirs since 3.15" in cases[2].find("system-out").text
