"""Paths, and the registry that names them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pdmlab.errors import Lwm2mError
from pdmlab.lwm2m.paths import MAX_ID, Path
from pdmlab.lwm2m.registry import ObjectDefinition, core_objects

PATHS = st.lists(st.integers(0, MAX_ID), min_size=1, max_size=4).map(lambda ids: Path(tuple(ids)))


@given(PATHS)
def test_a_path_reads_as_it_is_written(path: Path) -> None:
    assert Path.parse(str(path)) == path
    assert Path.parse("/".join(path.segments)) == path
    assert eval(repr(path)) == path


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "3//0",
        "/3/0/1/2/3",
        "/-3",
        "/65535",
        "/99999",
        "/3/0/x",
        "/٣",
        " /3",
        "/3\n",
        "//3",
        "/03",
        "/00/0/5",
        "/3/0 ",
        "/3?pmin=1",
    ],
)
def test_what_is_no_path_is_refused_with_a_hint(text: str) -> None:
    with pytest.raises(Lwm2mError, match="is no LwM2M path") as caught:
        Path.parse(text)
    assert caught.value.hint


def test_a_long_text_is_quoted_in_part() -> None:
    with pytest.raises(Lwm2mError) as caught:
        Path.parse("9" * 100_000)
    assert len(str(caught.value)) < 300


def test_a_path_knows_its_parts_and_its_family() -> None:
    path = Path.of(3, 0, 11, 2)
    assert (path.object, path.instance, path.resource, path.resource_instance) == (3, 0, 11, 2)
    assert path.parent == Path.parse("3/0/11")
    assert Path.of(3).parent is None
    assert (Path.of(3).instance, Path.of(3).resource, Path.of(3).resource_instance) == (None, None, None)
    assert Path.of(3) / 0 / 11 / 2 == path
    assert Path.of(3, 0).contains(path)
    assert path.contains(path)
    assert not path.contains(Path.of(3, 0))
    assert not Path.of(3, 1).contains(path)
    with pytest.raises(Lwm2mError):
        path / 1


def test_paths_sort_by_number() -> None:
    assert sorted(map(Path.parse, ["/10/0", "/3/0/11", "/3/0/2", "/3"])) == [
        Path.parse(each) for each in ["/3", "/3/0/2", "/3/0/11", "/10/0"]
    ]


# -- the registry ------------------------------------------------------------------------------------

OBJECTS = core_objects().objects


def test_the_objects_that_the_stock_example_has_are_known() -> None:
    needed = {
        0: (0, 1, 2, 3, 4, 5, 10),
        1: (0, 1, 4, 6, 7, 8),
        3: (0, 1, 2, 4, 5, 11, 13, 16, 17, 18, 21),
        14: (0, 2),
        3200: (5501,),
        3201: (5850, 5853),
        3303: (5700, 5701),
        5000: (2,),
        10252: (1, 2, 3),
        10255: (0, 3, 4),
        35011: (27002,),
    }
    missing = {(o, r) for o, rs in needed.items() for r in rs if o not in OBJECTS or r not in OBJECTS[o].resources}
    assert not missing


@pytest.mark.parametrize("definition", OBJECTS.values(), ids=lambda each: each.name)
def test_each_row_is_sane(definition: ObjectDefinition) -> None:
    assert definition.source
    assert definition.name[0].isupper()
    assert 0 <= definition.id <= MAX_ID
    types = {"string", "integer", "float", "boolean", "opaque", "time", "objlnk", "unsigned", "corelnk"}
    for id, resource in definition.resources.items():
        assert id == resource.id <= MAX_ID
        assert resource.name
        assert resource.operations in ("", "R", "W", "RW", "E")
        assert resource.type in types if resource.type else resource.operations == "E"
    names = [resource.name for resource in definition.resources.values()]
    assert len(set(names)) == len(names)


def test_what_is_secret_says_so() -> None:
    secret = {(o.id, r.id) for o in OBJECTS.values() for r in o.resources.values() if r.secret}
    assert secret == {(0, 3), (0, 5)}
    assert not any(r.operations for r in OBJECTS[0].resources.values())  # bootstrap only


def test_paths_have_names() -> None:
    name = core_objects().name
    assert name(Path.parse("/3/0/0")) == "Device / Manufacturer"
    assert name(Path.parse("/3303/2/5700")) == "Temperature 2 / Sensor Value"
    assert name(Path.parse("/3303/2/9")) == "Temperature 2 / 9"
    assert name(Path.parse("/3/0")) == "Device"
    assert name(Path.parse("/3200/1")) == "Digital Input 1"
    assert name(Path.parse("/9999/0/1")) == "/9999/0/1"


def test_a_resource_instance_has_its_resources_definition() -> None:
    assert core_objects().resource(Path.parse("/3/0/11/0")) is OBJECTS[3].resources[11]
    assert core_objects().resource(Path.parse("/3/0")) is None
    assert core_objects().resource(Path.parse("/9999/0/1")) is None
