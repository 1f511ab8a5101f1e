"""The link format of registrations (RFC 6690), in the stock example's shape and in others'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.linkformat import MAX_SIZE, Link, LinkList, format_links, parse_links, parse_list
from pdmlab.lwm2m.paths import Path

# The shape of the stock example's registration: values sent along, auto-observations, resource type names.
STOCK = (
    b'</1/0/1>;v="7200",</3/0/0>;v="dev_manufacturer",</3/0/11/0>,</3/0/16>;v="U";aobs="509",'
    b'</14/0/0>;v="MAIN",</14/0/2>;v="0.0.0";aobs="510",</10252/0/2>;aobs="511",</10255/0/3>;v="+gpNPnN/Tm+A=="'
    b',</3200/0/5501>;rt="Button";obs,</3201/0/5850>;rt="Blink",</3201/0/5853>;rt="Pattern";obs,</5000/0/2>'
)


def test_the_stock_examples_registration_reads_and_writes_back_byte_for_byte() -> None:
    links = parse_links(STOCK)
    assert len(links) == 12
    assert links[3] == Link(Path.parse("/3/0/16"), v="U", aobs=509)
    assert links[6].token == b"\x01\xff"
    assert links[7].v == "+gpNPnN/Tm+A=="
    assert links[8] == Link(Path.parse("/3200/0/5501"), rt="Button", obs=True)
    assert format_links(links) == STOCK


def test_what_an_update_takes_away_is_marked() -> None:
    (link,) = parse_links(b"</3200/0>;d")
    assert link.deleted
    assert str(link) == "</3200/0>;d"


def test_other_clients_lists_are_read() -> None:
    """As Leshan's and Wakaama's demos register: a root link, versions, formats, spaces."""
    links = parse_links(
        b'</>;rt="oma.lwm2m";ct=11543,</1/0>;ver=1.1, </3/0> ; ssid = 1,</.well-known/core>;ct=40,<3303/0>'
    )
    assert [str(link.path) for link in links] == ["/1/0", "/3/0", "/3303/0"]
    assert links[0].others == {"ver": "1.1"}
    assert links[1].others == {"ssid": "1"}
    assert str(links[0]) == "</1/0>;ver=1.1"


def test_quotes_and_backslashes_survive() -> None:
    link = Link(Path.parse("/3/0/0"), v='say "hi" \\ ; , <x>')
    assert str(link) == '</3/0/0>;v="say \\"hi\\" \\\\ ; , <x>"'
    assert parse_links(format_links([link])) == [link]


def test_the_first_of_a_repeated_attribute_counts() -> None:
    (link,) = parse_links(b'</3/0>;rt="a";rt="b"')
    assert link.rt == "a"


def test_an_empty_list_is_one() -> None:
    assert parse_links(b"") == []
    assert format_links([]) == b""


PATHS = st.lists(st.integers(0, 65534), min_size=1, max_size=4).map(lambda ids: Path(tuple(ids)))
LINKS = st.builds(
    Link,
    PATHS,
    rt=st.none() | st.text(max_size=20),
    v=st.none() | st.text(max_size=20),
    aobs=st.none() | st.integers(0, 0xFFFF),
    obs=st.booleans(),
    deleted=st.booleans(),
    others=st.dictionaries(
        st.sampled_from(["ver", "ssid", "ct", "title"]), st.none() | st.text(max_size=9), max_size=2
    ),
)


@given(st.lists(LINKS, max_size=5))
def test_what_is_written_is_read(links: list[Link]) -> None:
    assert parse_links(format_links(links)) == links


@given(st.one_of(st.binary(max_size=80), st.text('</,;="\\d0 \n', max_size=60).map(str.encode)))
def test_any_bytes_are_links_or_an_error(payload: bytes) -> None:
    try:
        parse_links(payload)
    except Lwm2mError as error:
        assert error.message.startswith("link format: ")


@pytest.mark.parametrize(
    "payload",
    [
        b"/3/0",
        b"</3/0",
        b"</3/0></1/0>",
        b"</3/0>;",
        b'</3/0>;v="open',
        b"</3/0>;=x",
        b"</3/0>,,</1/0>",
        b"</3/0>;aobs=x",
        b"</3/0>;aobs=65536",
        b'</3/0>;aobs="\xd9\xa3"',
        b"</3/0>;v=\xff",
    ],
)
def test_what_is_no_link_format_is_refused_with_a_place(payload: bytes) -> None:
    with pytest.raises(Lwm2mError, match=r"link format: .*(character|byte|path|number)"):
        parse_links(payload)


def test_a_list_of_any_length_takes_little_time_or_is_refused() -> None:
    with pytest.raises(Lwm2mError, match=r"65537 B, of which 65536 B are read at most"):
        parse_links(b" " * (MAX_SIZE + 1))
    for filling in (b"<>,", b'</3>;a="', b"\\", b" ", b"</3>;a=b,", b";a" * 2):
        try:
            parse_links(b"</3>;" + filling * (MAX_SIZE // len(filling) - 4))
        except Lwm2mError:
            pass


# -- lists with their root: LwM2M 1.1 --------------------------------------------------------------------------------


def test_a_1_1_registration_says_its_formats_and_versions() -> None:
    payload = b'</>;rt="oma.lwm2m";ct="60 110 112 11542 11543",</1>;ver=1.1,</1/0>,</3/0>,</3303>;ver="1.1",</3303/0>'
    found = parse_list(payload)
    assert (found.root, found.formats) == ("", (60, 110, 112, 11542, 11543))
    assert [(str(each.path), each.version) for each in found.links] == [
        ("/1", "1.1"),
        ("/1/0", "1.0"),
        ("/3/0", "1.0"),
        ("/3303", "1.1"),
        ("/3303/0", "1.0"),
    ]
    assert bytes(found) == payload.replace(b'"1.1"', b"1.1")


@pytest.mark.parametrize(
    ("payload", "root", "formats"),
    [
        (b"</>;ct=110,</3/0>", "", (110,)),
        (b'</3/0>,</>;ct="11543 x 999999 42"', "", (11543, 42)),
        (b'</lwm2m>;rt="oma.lwm2m";ct=11543,</lwm2m/3/0>,</sensors/3/1>', "/lwm2m", (11543,)),
        (b'</a/b>;rt="oma.lwm2m",</a/b/3/0>,</3/9>', "/a/b", ()),
        (b"</3/0>", "", ()),
    ],
)
def test_objects_are_found_below_the_root_that_the_device_says(
    payload: bytes, root: str, formats: tuple[int, ...]
) -> None:
    found = parse_list(payload)
    assert (found.root, found.formats) == (root, formats)
    assert [str(each.path) for each in found.links] == ["/3/0"]


def test_discover_on_the_bootstrap_interface() -> None:
    """The examples of LwM2M 1.1 and 1.0: the enabler's version, servers by their short ids, and their URIs."""
    found = parse_list(
        b'</>;lwm2m=1.1,</0/0>;ssid=101;uri="coaps://server_1.example.com",</0/1>,</1/0>;ssid=101,</3/0>'
    )
    assert found.version == "1.1"
    assert found.links[0].others == {"ssid": "101", "uri": "coaps://server_1.example.com"}
    assert bytes(found).startswith(b'</>;lwm2m=1.1,</0/0>;ssid=101;uri="coaps://server_1.example.com",')
    old = parse_list(b'lwm2m="1.0",</0/0>;ssid=101,</0/1>,</1/0>;ssid=101,</3/0>')
    assert old.version == "1.0"
    assert [str(each.path) for each in old.links] == ["/0/0", "/0/1", "/1/0", "/3/0"]
    assert bytes(old) == b'lwm2m="1.0",</0/0>;ssid=101,</0/1>,</1/0>;ssid=101,</3/0>'


def test_attributes_of_a_discover_are_kept_in_order() -> None:
    (link,) = parse_links(b"</3/0/7>;dim=8;pmin=10;pmax=60;gt=50;lt=42.2;epmin=1")
    assert list(link.others.items()) == [
        ("dim", "8"),
        ("pmin", "10"),
        ("pmax", "60"),
        ("gt", "50"),
        ("lt", "42.2"),
        ("epmin", "1"),
    ]
    assert str(link) == "</3/0/7>;dim=8;pmin=10;pmax=60;gt=50;lt=42.2;epmin=1"


@given(
    st.lists(LINKS, max_size=4),
    st.sampled_from(["", "/lwm2m", "/a/b"]),
    st.lists(st.integers(0, 65535), max_size=4).map(tuple),
    st.sampled_from([None, "1.0", "1.1"]),
)
def test_lists_that_are_written_are_read(
    links: list[Link], root: str, formats: tuple[int, ...], version: str | None
) -> None:
    if version is not None:
        root, formats = "", () if version == "1.0" else formats
    links = [link for link in links if link.rt != "oma.lwm2m"]
    written = LinkList(links, root, formats, version)
    assert parse_list(bytes(written)) == written


@given(st.one_of(st.binary(max_size=80), st.text('</,;="\\d0 \nlwm2=ct', max_size=60).map(str.encode)))
def test_any_bytes_are_a_list_or_an_error(payload: bytes) -> None:
    try:
        parse_list(payload)
    except Lwm2mError as error:
        assert error.message.startswith("link format: ")
