"""Boards with certificates of their factory, over real TLS and DTLS; the CAs are openssl's."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import sqlalchemy as sa
from aiocoap import Message
from aiocoap.numbers import codes

from pdmlab.coap.endpoint import Endpoint
from pdmlab.coap.tls import tls_to
from pdmlab.errors import HandshakeFailed, NetworkError
from pdmlab.service.bootstrap_plan import Plan
from pdmlab.service.enrollment import identity_of
from pdmlab.service.ids import timestamp
from pdmlab.service.schema import shared_keys, trusted_certificates
from pdmlab.service.store import Row
from tests.service.corelab import request, value
from tests.service.reallab import Carrier, RealLab, real, real_device
from tests.service.works import Board, KeyedBoard, Works

BOTH = pytest.mark.parametrize("carrier", ["tls", "dtls"])


def trust(lab: RealLab, works: Works, service: str = "bootstrap", account_id: str = "", **options: object) -> Row:
    """Have an account trust the root of a factory."""
    account_id = account_id or lab.core.account_id
    return lab.core.trusted.add(account_id, f"works {service}", works.pem("root"), service, **options)


async def refusal(board: Board, role: str = "bootstrap") -> str:
    """Return why a server does not let a board in, as the service's log has it."""
    lab = board.lab
    before = len(lab.log.rows())
    await board.power_on()
    with pytest.raises(NetworkError):
        await board.connect(role)
        await board.endpoint.request(_ping(), board.bootstrap_server if role == "bootstrap" else board.service)
    await board.close()

    def failures() -> list[str]:
        return [row.payload for row in lab.log.rows()[before:] if row.code == "handshake failed"]

    await lab.until(failures)
    return failures()[0]


def _ping() -> Message:
    return request(codes.GET, ".well-known/core")


@BOTH
@pytest.mark.parametrize("mode", ["certificates", "est"])
def test_a_board_of_a_trusted_factory_bootstraps_and_registers(tmp_path: Path, carrier: Carrier, mode: str) -> None:
    works = Works(tmp_path / "works")

    async def story(lab: RealLab) -> None:
        core, account = lab.core, lab.core.account_id
        core.bootstrap.set_plan(account, Plan(mode=mode))
        trusted = trust(lab, works)
        board = works.board(lab, carrier, "meter-0001")
        assert (await board.first_boot()).code == codes.CHANGED
        assert (await board.come()).opt.location_path == ("rd", account, board.id)
        (row,) = core.directory.list(account)
        digest = works_fingerprint(works, "meter-0001")
        assert (row["endpoint_name"], row["state"], row["device_execution_mode"]) == ("meter-0001", "registered", 5)
        assert (row["device_key"], row["ca_id"]) == (digest, trusted["id"])
        assert row["issuer_fingerprint"] == trusted["certificate_fingerprint"]
        await lab.ask(board, "GET", "/5000/0/1")
        assert value((await lab.answers())[0]) == b"test0"
        first = board.id
        await board.first_boot()  # its storage was wiped: it is the same board
        assert (await board.come()).opt.location_path == ("rd", account, first)

    real(story, tmp_path / "lab.sqlite")


def works_fingerprint(works: Works, name: str) -> str:
    """Return what the directory has as device_key."""
    return identity_of(works.der(name)).removeprefix("A-")


@BOTH
def test_inactive_or_deleted_stops_handshakes_at_once_and_the_log_says_why(tmp_path: Path, carrier: Carrier) -> None:
    works = Works(tmp_path / "works")

    async def story(lab: RealLab) -> None:
        core, account = lab.core, lab.core.account_id
        board = works.board(lab, carrier, "meter-0001")
        assert re.search(r"Works root.* a CA that is not trusted here", await refusal(board))
        row = trust(lab, works)
        assert (await board.first_boot()).code == codes.CHANGED
        core.trusted.change(account, row["id"], {"status": "INACTIVE"})
        assert "its CA is INACTIVE" in await refusal(board)
        # Another process that has the same database: nothing is told to this one.
        other = sa.create_engine(lab.url)
        with other.begin() as db:
            db.execute(sa.update(trusted_certificates).values(status="ACTIVE"))
        assert (await board.first_boot()).code == codes.CHANGED
        with other.begin() as db:
            db.execute(sa.delete(trusted_certificates))
        other.dispose()
        assert "a CA that is not trusted here" in await refusal(board)
        assert (await board.come()).code == codes.CREATED  # what it was told before is of this service

    real(story, tmp_path / "lab.sqlite")


def test_a_session_that_is_resumed_is_judged_again(tmp_path: Path) -> None:
    works = Works(tmp_path / "works")

    async def story(lab: RealLab) -> None:
        row = trust(lab, works)
        board = works.board(lab, "tls", "meter-0001")
        sessions: list[bytes] = []
        remote = ("127.0.0.1", lab.ports["bootstrap"][0])

        async def come() -> bool:
            opener = tls_to(remote, board.trusts("bootstrap"), session=(sessions or [b""])[-1] or None,
                            on_session=sessions.append)  # fmt: skip
            endpoint = await Endpoint.open(opener)
            try:
                await endpoint.request(_ping(), board.bootstrap_server)
            finally:
                await endpoint.close()
            return [each.payload for each in lab.log.rows() if each.code == "handshake completed"] != []

        assert await come()
        lab.core.trusted.change(lab.core.account_id, row["id"], {"status": "INACTIVE"})
        with pytest.raises(NetworkError):
            await come()
        failed = [each.payload for each in lab.log.rows() if each.code == "handshake failed"]
        assert failed and "the session that it resumed is good no more: its CA is INACTIVE" in failed[-1]

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_of_accounts_that_trust_one_factory_the_board_says_which(tmp_path: Path, carrier: Carrier) -> None:
    works = Works(tmp_path / "works")

    async def story(lab: RealLab) -> None:
        core, mine = lab.core, lab.core.account_id
        other, stranger = lab.new_account(), lab.new_account()
        trust(lab, works)
        trust(lab, works, account_id=other)
        board = works.board(lab, carrier, "meter-0001")
        for said, code, word in (
            ("", codes.BAD_REQUEST, b"several accounts trust"),
            (stranger, codes.FORBIDDEN, b"does not trust"),
            ("0" * 32, codes.FORBIDDEN, b"does not trust"),
        ):
            board.account_id = said
            answer = await board.first_boot()
            assert answer.code == code and word in answer.payload, answer.payload
        board.account_id = other
        assert (await board.first_boot()).code == codes.CHANGED
        assert (await board.come()).opt.location_path[1] == other
        assert core.directory.list(mine) == [] == core.directory.list(stranger)
        # Its certificate says whose it is: then nobody else's.
        named = works.board(lab, carrier, "meter-0002", more=f"/OU={mine}")
        named.account_id = other
        answer = await named.first_boot()
        assert answer.code == codes.FORBIDDEN and b"not the account of the certificate" in answer.payload
        named.account_id = ""
        assert (await named.first_boot()).code == codes.CHANGED
        assert [row["endpoint_name"] for row in core.directory.list(mine)] == ["meter-0002"]

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_a_ca_of_the_same_name_neither_lets_in_nor_keeps_out(tmp_path: Path, carrier: Carrier) -> None:
    works, false = Works(tmp_path / "works"), Works(tmp_path / "false")

    async def story(lab: RealLab) -> None:
        other = lab.new_account()
        trust(lab, false, account_id=other)
        board, forged = works.board(lab, carrier, "meter-0001"), false.board(lab, carrier, "meter-0001")
        assert "does not lead to the CA of that name" in await refusal(board)
        trust(lab, works)
        assert (await board.first_boot()).code == codes.CHANGED
        answer = await forged.first_boot()  # it says that it is ours, and leads to a CA that others trust
        assert answer.code == codes.FORBIDDEN and b"does not trust" in answer.payload

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_in_enrollment_mode_a_board_comes_to_whoever_has_enrolled_it(tmp_path: Path, carrier: Carrier) -> None:
    works = Works(tmp_path / "works")

    async def story(lab: RealLab) -> None:
        core, mine, other = lab.core, lab.core.account_id, lab.new_account()
        trust(lab, works, enrollment_mode=True)
        trusted = trust(lab, works, account_id=other, enrollment_mode=True)
        board = works.board(lab, carrier, "meter-0001")
        board.account_id = ""
        answer = await board.first_boot()
        assert answer.code == codes.FORBIDDEN and b"not enrolled" in answer.payload
        denied = core.store.rows(sa.text("SELECT account_id, endpoint_name FROM enrollment_denials"))
        assert sorted(row["account_id"] for row in denied) == sorted([mine, other])
        enrollment = core.enrollments.add(other, identity_of(works.der("meter-0001")))
        assert (await board.first_boot()).code == codes.CHANGED
        (row,) = core.directory.list(other)
        assert row["ca_id"] == trusted["id"] and core.directory.list(mine) == []
        assert core.enrollments.find(other, enrollment["id"])["enrolled_device_id"] == row["id"]
        assert (await board.come()).opt.location_path == ("rd", other, row["id"])
        core.enrollments.remove(other, enrollment["id"])  # it leaves the account, and may come into another
        core.enrollments.add(mine, identity_of(works.der("meter-0001")))
        assert (await board.first_boot()).code == codes.CHANGED
        assert core.directory.list(other) == [] and len(core.directory.list(mine)) == 1

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_where_the_lwm2m_server_trusts_the_factory_a_board_needs_no_bootstrap(tmp_path: Path, carrier: Carrier) -> None:
    works = Works(tmp_path / "works")

    async def story(lab: RealLab) -> None:
        core, account = lab.core, lab.core.account_id
        board = works.board(lab, carrier, "meter-0001")
        trust(lab, works)  # at the bootstrap server, which is no word for the other
        assert "a CA that is not trusted here" in await refusal(board, "lwm2m")
        row = trust(lab, works, "lwm2m")
        await board.power_on()
        await board.connect("lwm2m")
        query = ("ep=meter-0001", "lt=60", "lwm2m=1.1", "b=U")
        answer = await board.register(*query, f"aid={lab.new_account()}")
        assert answer.code == codes.FORBIDDEN and b"does not trust" in answer.payload
        assert (await board.register("ep=other", *query[1:])).code == codes.BAD_REQUEST
        assert (await board.register(*query)).code == codes.CREATED
        id = board.location[2]
        await core.requests.submit(lab.key_id, id, "a", "GET", "/3/0/0")
        assert value((await lab.answers())[0]) == b"pdmlab"
        await board.disconnect("lwm2m")
        board.session = None
        await board.connect("lwm2m")
        assert (await board.update()).code == codes.CHANGED  # another connection, and the same board
        core.trusted.remove(account, row["id"])
        answer = await board.register(*query)
        assert answer.code == codes.FORBIDDEN and b"not trusted here any more" in answer.payload

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_a_developer_certificate_that_is_revoked_opens_nothing(tmp_path: Path, carrier: Carrier) -> None:
    async def story(lab: RealLab) -> None:
        core, account = lab.core, lab.core.account_id
        device = await real_device(lab, carrier)
        assert (await device.first_boot()).code == codes.CHANGED
        row = core.developers.of_endpoint(account, "desk1")
        await device.connect("bootstrap")  # a connection from before says no more than one that is made now
        core.trusted.change(account, row["id"], {"status": "INACTIVE"})
        answer = await device.bootstrap()
        assert answer.code == codes.FORBIDDEN and b"INACTIVE" in answer.payload
        await device.endpoint.close()
        for change, word in (("INACTIVE", "is INACTIVE"), ("", "was deleted")):
            if not change:
                core.trusted.remove(account, row["id"])
            with pytest.raises(NetworkError) as failed:
                await device.connect("bootstrap")
                await device.endpoint.request(_ping(), device.bootstrap_server)
            if carrier == "dtls":
                assert isinstance(failed.value, HandshakeFailed) and failed.value.reason == "revoked"
            await device.endpoint.close()
            said = [each.payload for each in lab.log.rows() if each.code == "handshake failed"]
            assert word in said[-1]
        assert (await device.come()).code == codes.CREATED
        # Whoever asks for the credentials of that name has new ones.
        fresh = await real_device(lab, carrier)
        assert fresh.built_with != device.built_with and (await fresh.first_boot()).code == codes.CHANGED

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_a_chain_that_is_not_sound_lets_nobody_in(tmp_path: Path, carrier: Carrier) -> None:
    works = Works(tmp_path / "works")
    works.authority("clerk", "/CN=Works clerk", "root", "basicConstraints=CA:FALSE\n")

    async def story(lab: RealLab) -> None:
        trust(lab, works)
        cut = works.board(lab, carrier, "meter-0001")
        cut.above = ()
        assert "a CA that is not trusted here" in await refusal(cut)
        old = works.board(lab, carrier, "meter-0002", days=-1)
        assert "certificate has expired" in await refusal(old)
        of_clerk = works.board(lab, carrier, "meter-0003", by="clerk")
        assert "invalid CA certificate" in await refusal(of_clerk)
        mixed = works.board(lab, carrier, "meter-0004")
        mixed.above = (works.der("clerk"), works.der("root"), works.der("line"))  # in any order, and with more
        assert (await mixed.first_boot()).code == codes.CHANGED

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_what_a_factory_writes_of_ids_names_no_device(tmp_path: Path, carrier: Carrier) -> None:
    works = Works(tmp_path / "works")

    async def story(lab: RealLab) -> None:
        core = lab.core
        victim = await real_device(lab, carrier, "victim")
        await victim.first_boot()
        await victim.come()
        other = lab.new_account()
        for service in ("bootstrap", "lwm2m"):
            trust(lab, works, service, account_id=other)
        # It has the victim's name, its id in L, and its account in OU.
        thief = works.board(lab, carrier, "victim", more=f"/L={victim.id}/OU={core.account_id}")
        thief.account_id = ""
        answer = await thief.first_boot()
        assert answer.code == codes.FORBIDDEN
        thief.above = (works.der("line"),)
        await thief.connect("lwm2m")
        for query in (("ep=victim",), ("ep=victim", f"iep={victim.id}"), ("ep=victim", f"aid={core.account_id}")):
            assert (await thief.register(*query, "lt=60", "b=U")).code == codes.FORBIDDEN
        thief.location = ("rd", core.account_id, victim.id)
        assert (await thief.update()).code == codes.NOT_FOUND
        assert (await thief.deregister()).code == codes.NOT_FOUND
        shaken = [row for row in lab.log.rows() if row.code == "handshake completed"]
        assert [row.device for row in shaken if row.device] == [victim.id] and len(shaken) > 3

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_a_device_with_a_pre_shared_key_goes_all_the_way(tmp_path: Path, carrier: Carrier) -> None:
    async def story(lab: RealLab) -> None:
        core, account = lab.core, lab.core.account_id
        core.shared_keys.create(account, "my-endpoint-0001", bytes(range(32)))
        device = KeyedBoard(lab, "my-endpoint-0001", carrier)
        lab.devices.append(device)
        assert (await device.first_boot()).code == codes.CHANGED
        assert device.security[3] == b"my-endpoint-0001" and device.security[5] == bytes(range(32))
        assert (await device.come()).code == codes.CREATED
        await lab.ask(device, "GET", "/5000/0/1")
        assert value((await lab.answers())[0]) == b"test0"
        core.shared_keys.remove(account, "my-endpoint-0001")
        await lab.until(lambda: core.registrations.find(device.location[2]).lost_at is not None)
        device.session = None
        with pytest.raises(NetworkError):
            await device.connect("lwm2m")
            await device.endpoint.request(_ping(), device.service)

    real(story, tmp_path / "lab.sqlite")


@BOTH
def test_a_key_that_another_process_deletes_disconnects_here(tmp_path: Path, carrier: Carrier) -> None:
    async def story(lab: RealLab) -> None:
        board = await keyed_board(lab, carrier)
        with_it = lab.core.registrations.find(board.id)
        assert lab.core.lwm2m.connected(with_it.peer)
        lab.core.bus.heard('["another process",[["shared key","my-endpoint-0001"]]]')
        assert not lab.core.lwm2m.connected(with_it.peer) and "withdrawn" in with_it.lost_why

    real(story, tmp_path / "lab.sqlite")


@pytest.mark.parametrize("again", [False, True])
def test_an_association_by_a_key_that_went_while_nobody_looked_does_not_go_on(tmp_path: Path, again: bool) -> None:
    async def story(lab: RealLab) -> None:
        board = await keyed_board(lab, "dtls")
        peer, account = lab.core.registrations.find(board.id).peer, lab.core.account_id
        await lab.restart()
        assert lab.core.lwm2m.connected(peer)  # DTLS goes on over a restart
        await lab.core.stop()
        engine = sa.create_engine(lab.url)
        with engine.begin() as db:
            db.execute(sa.delete(shared_keys))
            if again:
                at = timestamp(lab.now() + 1)
                values = {"identity": board.name, "account_id": account, "created_at": at, "updated_at": at}
                db.execute(sa.insert(shared_keys).values(secret=bytes(16), **values))
        engine.dispose()
        await lab.start()
        assert not lab.core.lwm2m.connected(peer)

    real(story, tmp_path / "lab.sqlite")


async def keyed_board(lab: RealLab, carrier: Carrier) -> KeyedBoard:
    """Return a board that has registered by a pre-shared key."""
    lab.core.shared_keys.create(lab.core.account_id, "my-endpoint-0001")
    board = KeyedBoard(lab, "my-endpoint-0001", carrier)
    lab.devices.append(board)
    await board.first_boot()
    assert (await board.come()).code == codes.CREATED
    return board
