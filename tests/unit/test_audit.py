"""The dependency audit finds what it says it finds."""

from packaging.version import Version

from tests import audit


def test_a_package_that_nobody_pinned_is_told() -> None:
    """A package that is installed and not pinned, or in another version, was never tested."""
    wanted = audit.pinned("# a comment\nredis==8.1.0\n")
    assert audit.differences({"redis": Version("8.1.0")}, wanted) == []
    assert "not in constraints.txt" in audit.differences({"stray": Version("1")}, wanted)[0]
    assert "pinned to 8.1.0" in audit.differences({"redis": Version("8.0.0")}, wanted)[0]


def test_a_known_vulnerability_is_told() -> None:
    """A version below the mended one is reported with its fault."""
    assert "CVE-2021-23727" in audit.vulnerable({"celery": Version("5.2.1")})[0]
    assert audit.vulnerable({"celery": Version("5.6.3")}) == []
    assert audit.vulnerable(audit.pinned(audit.CONSTRAINTS.read_text())) == []
