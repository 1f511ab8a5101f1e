"""What two processes do to the same rows in the same moment: between one's look and its write, the other writes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa

from pdmlab.service.core import Core
from pdmlab.service.refusal import Refused
from pdmlab.service.schema import firmware_images, image_pieces, upload_jobs
from tests.service.databases import PostgreSQL
from tests.service.fota import IMAGE, manifest_v3
from tests.service.several import SeveralLab, Story, play

T = TypeVar("T")
IMAGE_BYTES = b"image" * 20_000


@pytest.fixture
def two(postgresql: PostgreSQL) -> Any:
    """Play a story with two processes, a and b."""
    url = postgresql.new()
    yield lambda story: play(story, url, "a", "b")
    postgresql.drop(url)


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """Run what never waits, in the middle of something else."""
    try:
        work.send(None)
    except StopIteration as end:
        return end.value  # type: ignore[no-any-return]
    raise AssertionError("it waits")


def after(owner: object, name: str, other: Callable[[], object]) -> None:
    """Let another process do something right after the next call of owner.name, once."""
    method = getattr(owner, name)

    def called(*args: Any, **options: Any) -> Any:
        setattr(owner, name, method)
        result = method(*args, **options)
        other()
        return result

    setattr(owner, name, called)


def count(core: Core, table: sa.Table) -> int:
    return int(core.store.scalar(sa.select(sa.func.count()).select_from(table)))


# -- campaigns -----------------------------------------------------------------------------------------------


def manifests(core: Core) -> tuple[str, str]:
    made = []
    for version in ("1.1.0", "1.2.0"):
        image = core.firmware.add_image(core.account_id, "image", IMAGE)["id"]
        der = manifest_v3(IMAGE, f"coap://service/fw/{image}", version)
        made.append(core.firmware.add_manifest(core.account_id, version, der)["id"])
    return made[0], made[1]


def test_a_campaign_sends_the_manifest_that_it_shows(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account, (old, new) = a.account_id, manifests(a)
        id = a.campaigns.create(account, device_filter="", root_manifest_id=old)["id"]
        after(a.firmware, "manifest_data", lambda: b.campaigns.change(account, id, root_manifest_id=new))
        row = a.campaigns.start(account, id)
        assert (row["phase"], row["root_manifest_id"], row["version"]) == ("starting", new, "1.2.0")
        assert bytes(row["manifest"]) == a.firmware.manifest_data(new)

    two(story)


@pytest.mark.parametrize(
    "change", [{"root_manifest_id": "new"}, {"device_filter": "id=1"}, {"when": "2030-01-01T00:00:00Z"}]
)
def test_a_campaign_that_is_started_meanwhile_stays_as_it_is(two: Any, change: dict[str, str]) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account, (old, new) = a.account_id, manifests(a)
        id = a.campaigns.create(account, device_filter="state=registered", root_manifest_id=old)["id"]
        after(b.campaigns, "find", lambda: a.campaigns.start(account, id))
        with pytest.raises(Refused, match="has started meanwhile") as refused:
            b.campaigns.change(
                account, id, **{name: new if value == "new" else value for name, value in change.items()}
            )
        row = a.campaigns.find(account, id)
        assert refused.value.status == 403
        assert (row["root_manifest_id"], row["version"], row["device_filter"], row["when"]) == (
            old,
            "1.1.0",
            "state=registered",
            None,
        )

    two(story)


# -- uploads -------------------------------------------------------------------------------------------------


async def almost_there(core: Core) -> str:
    id = str(core.uploads.add(core.account_id, "image")["id"])
    await core.uploads.add_chunk(core.account_id, id, IMAGE_BYTES)
    return id


async def settled(core: Core) -> None:
    for task in list(core.firmware.pieces._dropping):
        await task


def test_an_upload_that_is_finished_while_it_is_deleted_is_an_image_with_its_bytes(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account, id = a.account_id, await almost_there(a)
        image_id = a.uploads.find(account, id)["image_id"]
        after(b.uploads, "find", lambda: at_once(a.uploads.add_chunk(account, id, b"")))
        b.uploads.delete(account, id)
        await settled(b)
        assert count(a, upload_jobs) == 0 and count(a, firmware_images) == 1
        for core in (a, b):
            image = core.firmware.open(image_id)
            assert image is not None and image.read(0, image.size) == IMAGE_BYTES

    two(story)


def test_an_upload_that_is_deleted_while_it_is_finished_leaves_nothing(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core
        account, id = a.account_id, await almost_there(a)
        after(a.uploads, "_again", lambda: b.uploads.delete(account, id))
        with pytest.raises(Refused, match="there is no upload job") as refused:
            await a.uploads.add_chunk(account, id, b"")
        await settled(b)
        assert refused.value.status == 404
        assert count(a, upload_jobs) == count(a, firmware_images) == count(a, image_pieces) == 0

    two(story)


def test_the_bytes_of_an_image_are_not_dropped_by_mistake(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a = lab["a"].core
        id = a.firmware.add_image(a.account_id, "image", IMAGE_BYTES)["id"]
        a.firmware.pieces.drop(id)
        await settled(a)
        image = a.firmware.open(id)
        assert image is not None and image.read(0, image.size) == IMAGE_BYTES

    two(story)


def test_what_took_too_long_to_come_and_was_let_go_of_is_no_image(two: Any) -> None:
    async def story(lab: SeveralLab) -> None:
        a, b = lab["a"].core, lab["b"].core

        def parts() -> Any:
            yield IMAGE_BYTES
            with b.store.begin() as db:  # as a start that comes late does
                db.execute(sa.delete(upload_jobs))
            yield IMAGE_BYTES

        with pytest.raises(Refused, match="to come") as refused:
            await a.uploads.receive(a.account_id, "image", parts())
        await settled(a)
        assert refused.value.status == 409
        assert count(a, firmware_images) == count(a, image_pieces) == 0

    two(story)
