"""`pdmlab dm`, as people type it, with and without a service that runs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from click.testing import CliRunner, Result

from pdmlab import running
from pdmlab.aio import LoopThread
from pdmlab.cli import main
from pdmlab.cloud import Cloud
from pdmlab.firmware.image import ImageInfo, build_image
from pdmlab.running import find, nearest
from pdmlab.service import serve
from pdmlab.service.schema import developer_keys
from pdmlab.service.service import Service
from pdmlab.update.credentials import CREDENTIALS_FILE, RESOURCES_FILE
from pdmlab.update.developer import CERTIFICATE_FILE, KEY_FILE, Developer
from pdmlab.update.manifest import SignedManifest
from tests.service.restlab import LINKS, Device

INIT = ("dm", "init", "-d", "company.com", "--model-name", "thermostat")
Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    return lambda *arguments, **options: runner.invoke(main, [str(each) for each in arguments], **options)


@pytest.fixture
def service() -> Iterator[Service]:
    with serve() as service:
        yield service


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "fw.bin"
    file.write_bytes(build_image(ImageInfo("example", "1.0.1"), size=4096))
    return file


def test_init_makes_everything_a_build_compiles_in(run: Run, service: Service, tmp_path: Path) -> None:
    done = run(*INIT, "-q")
    assert done.exit_code == 0, done.output
    developer = Developer(tmp_path)
    assert developer.credentials.bootstrap_server_uri == service.bootstrap_uri
    assert developer.credentials.account_id == service.account_id
    assert developer.private_key.public_key() is not None
    assert developer.resources.vendor_id.hex() in done.output and CREDENTIALS_FILE in done.output


def test_init_overwrites_only_what_it_may(run: Run, service: Service, tmp_path: Path) -> None:
    run(*INIT, "-q")
    before = (tmp_path / RESOURCES_FILE).read_bytes()
    refused = run(*INIT, "-q")
    assert refused.exit_code == 1 and "--force" in refused.stderr
    for answer in ("n\n", ""):  # "": </dev/null
        refused = run(*INIT, input=answer)
        assert refused.exit_code == 1 and "nothing was changed" in refused.stderr and "--force" in refused.stderr
    made = sa.select(sa.func.count()).select_from(developer_keys)
    assert service.call(service.core.store.scalar, made) == 1  # what was refused took none from the service
    assert (tmp_path / RESOURCES_FILE).read_bytes() == before
    assert run(*INIT, input="y\n").exit_code == 0
    after = (tmp_path / RESOURCES_FILE).read_bytes()
    assert after != before
    assert run(*INIT, "-q", "--force").exit_code == 0
    assert (tmp_path / RESOURCES_FILE).read_bytes() != after


def test_credentials_join_the_keys_of_another_tool(run: Run, service: Service, tmp_path: Path) -> None:
    run(*INIT, "-q", "--no-credentials")  # as manifest-dev-tool leaves a folder
    before = {file: file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()}
    refused = run(*INIT, "-q")
    assert refused.exit_code == 1 and "--credentials-only" in refused.stderr
    done = run("dm", "init", "--credentials-only", "-q")
    assert done.exit_code == 0 and service.bootstrap_uri in done.output, done.output
    assert Developer(tmp_path).credentials.account_id == service.account_id
    assert (tmp_path / CREDENTIALS_FILE).stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    assert {file: file.read_bytes() for file in before} == before
    made = (tmp_path / CREDENTIALS_FILE).read_bytes()
    again = run("dm", "init", "--credentials-only", "-q")  # it would be another device
    assert again.exit_code == 1 and "--force" in again.stderr and (tmp_path / CREDENTIALS_FILE).read_bytes() == made
    assert run("dm", "init", "--credentials-only", "-q", "--force").exit_code == 0
    assert (tmp_path / CREDENTIALS_FILE).read_bytes() != made


def test_init_says_what_is_missing_or_contradicts(run: Run) -> None:
    assert "--model-name" in run("dm", "init", "-d", "company.com").stderr
    assert "nothing to do" in run(*INIT, "--credentials-only", "--no-credentials").stderr


def test_init_without_a_service_says_what_to_do_and_writes_nothing(run: Run, tmp_path: Path) -> None:
    done = run(*INIT, "-q")
    assert done.exit_code == 1 and "pdmlab service" in done.stderr and "--no-credentials" in done.stderr
    assert list(tmp_path.iterdir()) == []
    assert run(*INIT, "-q", "--no-credentials").exit_code == 0
    assert (tmp_path / KEY_FILE).exists() and not (tmp_path / CREDENTIALS_FILE).exists()


def test_init_takes_the_key_that_mbed_tools_take(
    run: Run, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PDMLAB_HOST", service.url)
    monkeypatch.setenv("CLOUD_SDK_API_KEY", "ak_wrong")
    refused = run(*INIT, "-q")
    assert refused.exit_code == 1 and "401" in refused.stderr and "ak_wrong" not in refused.output
    monkeypatch.setenv("CLOUD_SDK_API_KEY", service.api_key)
    assert run(*INIT, "-q").exit_code == 0
    assert run(*INIT, "-q", "--force", "-a", service.api_key, "--host", service.url).exit_code == 0


@pytest.mark.parametrize("domain", ["company", "no spaces.com", ""])
def test_init_refuses_what_is_no_domain_before_it_asks_a_service(run: Run, domain: str) -> None:
    done = run("dm", "init", "-d", domain, "--model-name", "m", "-q")
    assert done.exit_code == 1 and "domain" in done.stderr


def test_a_manifest_is_made_and_shown(run: Run, image: Path, tmp_path: Path) -> None:
    run(*INIT, "-q", "--no-credentials")
    made = run("dm", "create", "-p", image, "-u", "http://127.0.0.1/fw", "-o", "fw.manifest")
    assert made.exit_code == 0 and made.output.endswith(" B: MAIN 1.0.1, image not signed\n"), made.output
    of_radio = ("-m", "--component-name", "radio", "-o", "radio.manifest")
    signs = run("dm", "create", "-p", image, "-u", "http://127.0.0.1/fw", *of_radio)
    assert signs.output.endswith(" B: radio 1.0.1, image signed\n"), signs.output
    numbered = run("dm", "create-v1", "-p", image, "-u", "http://127.0.0.1/fw", "-o", "fw.v1", "-v", "7")
    assert numbered.output.endswith(" B: MAIN 7, image not signed\n"), numbered.output
    signed = SignedManifest.parse((tmp_path / "fw.manifest").read_bytes())
    assert signed.manifest.version == "1.0.1"  # as the image names it
    shown = run("dm", "parse", "fw.manifest", "-c", CERTIFICATE_FILE)
    assert shown.exit_code == 0 and "1.0.1" in shown.output and "http://127.0.0.1/fw" in shown.output
    assert "signature" in shown.output and "not checked" not in shown.output
    assert "not checked" in run("dm", "parse", "fw.manifest").output
    (tmp_path / "fw.manifest").write_bytes((tmp_path / "fw.manifest").read_bytes().replace(b"1.0.1", b"9.9.9"))
    assert run("dm", "parse", "fw.manifest", "-c", CERTIFICATE_FILE).exit_code == 1
    assert run("dm", "parse", image).exit_code == 1


@pytest.mark.parametrize("uri", ["not a url", "fw", "http://", "http://127.0.0.1/my fw", "http://127.0.0.1/\n"])
def test_what_is_no_uri_is_not_signed(run: Run, image: Path, tmp_path: Path, uri: str) -> None:
    run(*INIT, "-q", "--no-credentials")
    refused = run("dm", "create", "-p", image, "-u", uri, "-o", "m")
    assert refused.exit_code == 1 and "no URI" in refused.stderr
    assert not (tmp_path / "m").exists()


def test_an_image_that_names_no_version_gets_the_next_as_the_stock_tool_gives_it(run: Run, tmp_path: Path) -> None:
    run(*INIT, "-q", "--no-credentials")
    (tmp_path / "raw.bin").write_bytes(b"\x00" * 1000)
    make = ("dm", "create", "-p", "raw.bin", "-u", "/fw", "-o", "m")

    def version(*options: object) -> str:
        assert run(*make, *options).exit_code == 0
        return SignedManifest.parse((tmp_path / "m").read_bytes()).manifest.version

    assert [version(), version()] == ["0.0.2", "0.0.3"]
    assert version("-v", "2.0.999") == "2.0.999" and version() == "2.1.0"
    assert version("--component-name", "radio") == "0.0.2"  # each component has its own
    refused = run(*make, "-v", "0.0.0")
    assert refused.exit_code == 2 and "0.0.1" in refused.stderr


def test_an_update_that_a_device_refuses_ends_with_its_words_and_status_1(
    run: Run, service: Service, image: Path
) -> None:
    run(*INIT, "-q")
    with LoopThread("devices") as loop:
        device = Device(lambda work: loop.run(work, timeout=30), service.core.lwm2m.address, "desk1")
        device.register(LINKS + ',</10252/0/1>,</14/0/2>;v="1.0.0"')
        done = run("dm", "update", "device", "-D", "desk1", "-p", image)
        assert done.exit_code == 1, done.output
        assert f"{device.id}: " in done.output
        with Cloud(service.url, service.api_key) as cloud:
            assert cloud.campaigns().count() == cloud.firmware_images().count() == 0  # tidied up
        late = run("dm", "update", "device", "-D", "desk1", "-p", image, "-T", 0)
        assert late.exit_code == 1 and "the campaign is stopped now" in late.stderr
        assert "campaign.stop()" not in late.stderr and "hint: " in late.stderr
        started = run("dm", "update", "device", "-D", device.id, "-p", image, "--no-wait")
        assert started.exit_code == 0 and "started" in started.output
        device.close()


def test_an_update_of_nobody_is_an_error(run: Run, service: Service, image: Path) -> None:
    run(*INIT, "-q")
    done = run("dm", "update", "device", "-D", "nobody", "-p", image)
    assert done.exit_code == 1 and "nobody" in done.stderr
    with Cloud(service.url, service.api_key) as cloud:
        assert cloud.firmware_images().count() == 0


def test_a_service_is_found_while_it_runs(service: Service) -> None:
    assert find() == (service.url, service.api_key)
    assert find("another") is None
    with serve(name="mine") as mine:
        assert nearest() == (mine.url, mine.api_key)  # started last in this process
    assert nearest() == find()
    service.close()
    assert find() is None and nearest() is None


def test_a_version_that_the_image_does_not_have_is_refused(run: Run, service: Service, image: Path) -> None:
    assert run(*INIT, "-q").exit_code == 0
    made = ("dm", "create", "-p", image, "-u", "/fw/1", "-o", "manifest")
    refused = run(*made, "-v", "1.0.9")
    assert refused.exit_code == 1 and "the image says that it is version 1.0.1, not 1.0.9" in refused.output
    assert run(*made, "-v", "1.0.1").exit_code == 0


def test_devices_are_listed_with_their_ids(run: Run, service: Service) -> None:
    assert "no devices at http://127.0.0.1:" in run("dm", "devices").output
    id = service.call(lambda: service.core.directory.add(service.account_id, endpoint_name="desk1")["id"])
    listed = run("dm", "devices")
    assert listed.exit_code == 0 and id in listed.output and "desk1" in listed.output


def test_piped_devices_are_rows_for_other_programs_and_no_id_is_cut(run: Run, service: Service) -> None:
    name = "board-" + "x" * 58
    id = service.call(lambda: service.core.directory.add(service.account_id, endpoint_name=name, name="y" * 100)["id"])
    assert run("dm", "devices").output.split("\n")[0].split("\t") == [id, "unenrolled", name, "y" * 100]


def test_a_service_is_found_whatever_its_name_and_several_are_told_apart_by_it(run: Run) -> None:
    def ask(*more: str) -> Result:
        running._here.clear()  # as another process sees it
        return run("dm", "devices", *more)

    assert "there is no service to ask" in ask().output
    with serve(name="bench") as bench:
        assert f"no devices at {bench.url}" in ask().output
        assert f"no service named 'desk' runs here, but bench ({bench.url})" in ask("--name", "desk").output
        assert "either a name or an address" in ask("--name", "bench", "--host", bench.url).output
        with serve(name="rack") as rack:
            several = ask()
            assert several.exit_code == 1
            assert f"several services run here: bench ({bench.url}), rack ({rack.url})" in several.output
            assert "--name" in several.output
            init = run(*INIT, "-q")  # its hint is the same
            assert "several services" in init.output and "--name" in init.output
            assert run(*INIT, "-q", "--name", "bench").exit_code == 0
            running._here.clear()
            assert f"no devices at {rack.url}" in ask("--name", "rack").output
            with serve() as default:
                assert f"no devices at {default.url}" in ask().output
                assert f"no devices at {bench.url}" in ask("--name", "bench").output
    assert "nor any other" in ask("--name", "bench").output


def test_a_key_that_the_service_does_not_know_is_told_where_its_own_is(run: Run, service: Service) -> None:
    refused = run("dm", "devices", "-a", "ak_wrong")
    assert refused.exit_code == 1 and str(service.folder / "api-key") in refused.stderr
    assert service.api_key not in refused.output and "ak_wrong" not in refused.output
