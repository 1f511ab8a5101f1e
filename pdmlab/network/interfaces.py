"""The interfaces that boards have, one class a bearer: a cable, a wireless LAN, a modem, a mesh."""

from __future__ import annotations

from collections.abc import Mapping

from pdmlab.network.interface import NetworkInterface
from pdmlab.network.link import Step
from pdmlab.network.nsapi import ConnectionStatus, NsapiError, Security, nsapi_error


class EthernetInterface(NetworkInterface):
    """A cable."""

    type = "Ethernet"
    bearer = "ethernet"


class WiFiInterface(NetworkInterface):
    """A wireless LAN station; `access_points` maps the SSIDs in reach to their passwords (None: any will do)."""

    type = "WiFi"
    bearer = "wifi"
    access_points: Mapping[str, str] | None = None

    _ssid = ""
    _password = ""
    _security = Security.NONE

    def set_credentials(self, ssid: str, password: str = "", security: Security = Security.NONE) -> None:
        """Say which network to join.

        Raises:
            NetworkError: no SSID, or security without a password (NSAPI_ERROR_PARAMETER).
        """
        if not ssid or len(ssid.encode()) > 32 or (security != Security.NONE and not password):
            raise nsapi_error(
                NsapiError.PARAMETER,
                f"no network can be called {ssid!r} with security {security.name}"
                if password or not ssid
                else f"security {security.name} of {ssid!r} needs a password",
                hint="an SSID has 1 to 32 bytes; security other than NONE needs a password",
            )
        self._ssid, self._password, self._security = ssid, password, security

    def scan(self) -> list[str]:
        """Return the SSIDs in reach; takes the scan step's device time."""
        self.clock.charge(sum(step.time for step in self.link.attach if step.name == "scan"))
        return sorted(self.access_points or ()) if self._carrier else []

    def _check(self, step: Step, seconds: float) -> None:
        known = self.access_points
        if not self._carrier or not self._ssid or (known is not None and self._ssid not in known):
            raise nsapi_error(NsapiError.NO_SSID, f"{self.name} hears no {self._ssid!r} after {seconds:.1f} s")
        if step.name != "scan" and known is not None and known[self._ssid] != self._password:
            raise nsapi_error(
                NsapiError.AUTH_FAILURE, f"{self._ssid!r} refuses {self.name} after {seconds:.1f} s ({step.name})"
            )


class CellularInterface(NetworkInterface):
    """A modem; `sim_locked_by` is the PIN its SIM asks for, if any."""

    type = "Cellular"
    bearer = "cellular"
    without_carrier = ConnectionStatus.NSAPI_STATUS_DISCONNECTED  # PPP has ended; the modem dials again
    sim_locked_by: str | None = None

    _pin: str | None = None
    _apn: str | None = None

    def set_sim_pin(self, pin: str) -> None:
        """Give the SIM's PIN."""
        self._pin = pin

    def set_credentials(self, apn: str, username: str | None = None, password: str | None = None) -> None:
        """Say which access point name to use; the simulated network takes any."""
        self._apn = apn

    def _check(self, step: Step, seconds: float) -> None:
        if self.sim_locked_by is not None and self._pin != self.sim_locked_by:
            raise nsapi_error(NsapiError.AUTH_FAILURE, f"the SIM of {self.name} refuses the PIN ({step.name})")
        super()._check(step, seconds)


class MeshInterface(NetworkInterface):
    """An IEEE 802.15.4 mesh node; 6LoWPAN unless a link says Thread."""

    type = "Mesh"
    bearer = "6lowpan"


class LoWPANInterface(MeshInterface):
    """A 6LoWPAN node (Mbed's LoWPANNDInterface)."""

    type = "6LoWPAN"


class ThreadInterface(MeshInterface):
    """A Thread node."""

    type = "Thread"
    bearer = "thread"


class WisunInterface(MeshInterface):
    """A Wi-SUN FAN node."""

    type = "Wi-SUN"
    bearer = "wi-sun"


INTERFACES: dict[str, type[NetworkInterface]] = {
    "ETHERNET": EthernetInterface,
    "WIFI": WiFiInterface,
    "CELLULAR": CellularInterface,
    "MESH": MeshInterface,
    "6LOWPAN": LoWPANInterface,
    "THREAD": ThreadInterface,
    "WISUN": WisunInterface,
}
"""By Mbed's target.network-default-interface-type (and the kinds of MESH by name)."""
