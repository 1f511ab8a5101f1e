"""`pdmlab dm create-suit`, `convert` and `parse`: an envelope made on the command line is one that a board takes."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography import x509

from pdmlab.cli.dm import dm
from pdmlab.update import suit
from pdmlab.update.checks import Acceptance
from pdmlab.update.developer import Developer
from pdmlab.update.version import Version

IMAGE = b"firmware " * 100


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "fw.bin").write_bytes(IMAGE)
    Developer(tmp_path).init("company.com", "model")
    return tmp_path


def run(*words: str) -> Result:
    return CliRunner().invoke(dm, list(words))


def board(project: Path) -> Acceptance:
    resources = Developer(project).resources
    return Acceptance(resources.public_key, resources.vendor_id, resources.class_id, {"MAIN": Version(1, 0, 0)})


def certificate(project: Path) -> str:
    file = project / "certificate.der"
    file.write_bytes(Developer(project).resources.default_certificate)
    assert x509.load_der_x509_certificate(file.read_bytes())
    return str(file)


def test_an_envelope_with_its_image_is_made_shown_and_accepted(project: Path) -> None:
    done = run("create-suit", "-p", "fw.bin", "-v", "1.2.0", "-o", "fw.suit")
    assert done.exit_code == 0 and " B: MAIN 1.2.0, image not signed" in done.output, done.output
    data = (project / "fw.suit").read_bytes()
    accepted = suit.accept(data, board(project))
    assert (accepted.version, accepted.uri, accepted.payload_size) == ("1.2.0", "#firmware", len(IMAGE))
    shown = run("parse", "fw.suit", "-c", certificate(project))
    assert shown.exit_code == 0, shown.output
    for word in ("image match", "#firmware", "900 B", "by the owner of", "1.2.0"):
        assert word in shown.output
    (project / "fw.suit").write_bytes(data[:-1])
    assert run("parse", "fw.suit").exit_code != 0


def test_an_envelope_may_name_where_its_image_is(project: Path) -> None:
    assert run("create-suit", "-p", "fw.bin", "-v", "1.2.0", "-u", "coap://host/fw", "-o", "fw.suit").exit_code == 0
    assert suit.accept((project / "fw.suit").read_bytes(), board(project)).uri == "coap://host/fw"
    refused = run("create-suit", "-p", "fw.bin", "-v", "1.2.1", "-m", "-o", "fw.suit")
    assert refused.exit_code == 2 and "No such option" in refused.output
    offered = run("create-suit", "--help").output
    assert "--fw-version" in offered and not {"-m", "-r", "-d"} & set(offered.replace(",", " ").split())


def test_what_is_no_manifest_v3_is_not_converted_and_what_it_is_is_said(project: Path) -> None:
    assert run("create-suit", "-p", "fw.bin", "-v", "1.2.0", "-o", "fw.suit").exit_code == 0
    assert run("create-v1", "-p", "fw.bin", "-u", "/fw", "-v", "7", "-o", "fw.v1").exit_code == 0
    for file, said in (("fw.suit", "is a SUIT envelope already"), ("fw.v1", "is a manifest v1; only v3")):
        refused = run("convert", file, "-o", "out")
        assert refused.exit_code == 1 and said in str(refused.exception)
        assert not (project / "out").exists()


def test_a_manifest_v3_is_converted_and_what_is_lost_is_said(project: Path) -> None:
    assert run("create", "-p", "fw.bin", "-v", "1.3.0", "-u", "http://host/fw", "-m", "-o", "fw.v3").exit_code == 0
    done = run("convert", "fw.v3", "-p", "fw.bin", "-o", "fw.suit")
    assert done.exit_code == 0, done.output
    assert "does not carry over: the signature" in done.output and "installed image's signature" in done.output
    accepted = suit.accept((project / "fw.suit").read_bytes(), board(project))
    assert (accepted.version, accepted.uri) == ("1.3.0", "#firmware")
    (project / "fw.bin").write_bytes(IMAGE[::-1])
    other = run("convert", "fw.v3", "-p", "fw.bin", "-o", "fw.suit")
    assert other.exit_code != 0 and "not the image of" in str(other.exception or other.output)
