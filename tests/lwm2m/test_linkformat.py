"""The link format of registrations (RFC 6690), in the stock example's shape and in others'."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.linkformat import MAX_SIZE, Link, format_links, parse_links
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
