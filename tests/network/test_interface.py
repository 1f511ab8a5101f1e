from __future__ import annotations

import pytest

from pdmlab.clock import SECOND, DeviceClock
from pdmlab.errors import ConfigError, NetworkError, Unreachable
from pdmlab.network.fabric import Fabric
from pdmlab.network.interface import NetworkInterface, default_interface, set_default
from pdmlab.network.interfaces import INTERFACES, CellularInterface, EthernetInterface, WiFiInterface
from pdmlab.network.link import Link
from pdmlab.network.nsapi import ConnectionStatus, Security
from pdmlab.network.sockets import UDPSocket


@pytest.mark.parametrize("name", INTERFACES)
def test_connecting_takes_what_the_bearers_steps_take(name: str, clock: DeviceClock, fabric: Fabric) -> None:
    net = INTERFACES[name](clock, fabric=fabric)
    states: list[str] = []
    net.attach(lambda status: states.append(status.name))
    if isinstance(net, WiFiInterface):
        net.set_credentials("office", "secret", Security.WPA2)
    assert net.get_ip_address() is None
    clock.call(net.connect)
    assert clock.now() == net.link.attach_time > SECOND
    assert net.get_connection_status() == ConnectionStatus.NSAPI_STATUS_GLOBAL_UP
    address = net.get_ip_address()
    assert address is not None and address.startswith("2001:db8::" if net.link.ip_header == 40 else "198.18.")
    assert net.get_mac_address().startswith("02:") and len(net.get_mac_address()) == 17
    clock.call(net.disconnect)
    assert states == ["NSAPI_STATUS_CONNECTING", "NSAPI_STATUS_GLOBAL_UP", "NSAPI_STATUS_DISCONNECTED"]
    assert net.get_ip_address() is None


def test_connecting_twice_is_refused_with_mbeds_code(clock: DeviceClock) -> None:
    net = EthernetInterface(clock)
    clock.call(net.connect)
    with pytest.raises(NetworkError, match=r"NSAPI_ERROR_IS_CONNECTED, -3015"):
        clock.call(net.connect)


def test_wifi_says_whether_the_name_or_the_password_is_wrong(clock: DeviceClock) -> None:
    net = WiFiInterface(clock)
    net.access_points = {"office": "secret"}
    codes = []
    for ssid, password in (("Office", "secret"), ("office", "Secret"), ("office", "secret")):
        net.set_credentials(ssid, password, Security.WPA2)
        try:
            clock.call(net.connect)
            codes.append(0)
        except NetworkError as error:
            codes.append(error.code)
            assert "ecret" not in str(error) + repr(net)
    assert codes == [-3008, -3011, 0]
    assert clock.call(net.scan) == ["office"]
    with pytest.raises(NetworkError, match="NSAPI_ERROR_PARAMETER"):
        net.set_credentials("")


def test_a_locked_sim_refuses_until_its_pin_is_set(clock: DeviceClock) -> None:
    net = CellularInterface(clock)
    net.sim_locked_by = "1234"
    with pytest.raises(NetworkError, match="refuses the PIN"):
        clock.call(net.connect)
    net.set_sim_pin("1234")
    clock.call(net.connect)


def test_without_a_carrier_there_is_no_connection(clock: DeviceClock, fabric: Fabric) -> None:
    net = EthernetInterface(clock, fabric=fabric)
    net.carrier = False
    with pytest.raises(Unreachable, match="NSAPI_ERROR_NO_CONNECTION"):
        clock.call(net.connect)
    assert net.get_connection_status() == ConnectionStatus.NSAPI_STATUS_DISCONNECTED


def test_the_default_instance_belongs_to_the_running_board(clock: DeviceClock) -> None:
    board, fallback = EthernetInterface(clock, name="board"), EthernetInterface(clock, name="notebook")
    with pytest.raises(Unreachable, match="there is no default network interface"):
        NetworkInterface.get_default_instance()
    set_default(lambda: fallback)
    try:
        assert NetworkInterface.get_default_instance() is fallback
        token = default_interface.set(lambda: board)
        assert NetworkInterface.get_default_instance() is board
        assert clock.call(NetworkInterface.get_default_instance) is board
        default_interface.reset(token)
    finally:
        set_default(None)


def test_another_link_takes_over_under_way(clock: DeviceClock, fabric: Fabric) -> None:
    net = EthernetInterface(clock, fabric=fabric)
    net.link = Link.of("cellular")
    assert net.host is not None and net.host.link.name == "cellular"
    assert repr(net) == "<EthernetInterface board on cellular, NSAPI_STATUS_DISCONNECTED>"


def test_what_is_no_link_is_refused_before_it_is_stored_and_a_bearers_name_is_one(
    clock: DeviceClock, fabric: Fabric
) -> None:
    net = EthernetInterface(clock, fabric=fabric)
    for wrong in ("carrier-pigeon", 3, None):
        with pytest.raises(ConfigError):
            net.link = wrong  # type: ignore[assignment]
        assert net.link is Link.of("ethernet") and "on ethernet" in repr(net)
    net.link = "wifi"
    assert net.link is Link.of("wifi") and net.host is not None and net.host.link is net.link


def test_an_error_in_a_callback_of_the_fabric_ends_the_boards_run_with_it(clock: DeviceClock, fabric: Fabric) -> None:
    net = EthernetInterface(clock, fabric=fabric)

    def fails(data: bytes, source: object) -> None:
        raise ZeroDivisionError("of the peer")

    peer = fabric.host("peer").open_datagram(fails, 7)

    def main() -> None:
        net.connect()
        with UDPSocket(net) as udp:
            udp.sendto(*peer.address, b"ping")
            udp.recvfrom(100)  # nothing will come

    with pytest.raises(ZeroDivisionError, match="of the peer"):
        clock.call(main)
    assert clock.call(lambda: 5) == 5  # and the clock goes on
