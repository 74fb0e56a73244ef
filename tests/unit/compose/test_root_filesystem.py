"""A long step of the first setup says how far it is."""

from pathlib import Path

from compose.local.root_filesystem import _APT, _MAVEN, how_far


def test_what_apt_and_maven_have_done_is_counted(tmp_path: Path) -> None:
    """Lines of this step only; a word with nothing to count is left out."""
    log = tmp_path / "ground.log"
    log.write_text("Get:1 http://an/earlier/step base-files\n")
    begun = log.stat().st_size
    assert how_far(log, begun, _APT) == ""
    with log.open("a") as file:
        file.write("Get:1 http://a/b c\nGet:2 http://a/b d\nUnpacking c (1.0) ...\nNot Unpacking\n")
    assert how_far(log, begun, _APT) == "2 fetched, 1 unpacked"
    begun = log.stat().st_size
    with log.open("a") as file:
        file.write("[INFO] Downloading from central: a.jar\n[INFO] Downloaded from central: a.jar (1 kB)\n")
    assert how_far(log, begun, _MAVEN) == "1 fetched"
