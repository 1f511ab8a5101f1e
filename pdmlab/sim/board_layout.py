"""A virtual board's flash layout: its catalogue row's, and over it what the working folder's mbed_app.json says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pdmlab.errors import ConfigError
from pdmlab.sim.compiled_in import MBED_APP, project_folder, read_mbed_app
from pdmlab.storage.kv.nvstore import NVStore
from pdmlab.storage.medium import Medium
from pdmlab.update.layout import INTERNAL, FlashLayout
from pdmlab.update.layout_settings import overrides, survey_config

if TYPE_CHECKING:
    from pdmlab.boards.catalog import BoardRow

_SOTP = tuple(f"sotp-section-{number}-{what}" for number in (1, 2) for what in ("address", "size"))
_SOTP_NAMES = ("sotp-section-", "nvstore.area_", "internal_base_address")
# What a file says of a thing takes the place of all that the catalogue says of it.
_PLACES: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...] = (
    (
        (
            "header_offset",
            "app_offset",
            "application-details",
            "application-header-address",
            "application-start-address",
        ),
        ("target.header_offset", "target.app_offset"),
    ),
    (
        ("update-client.storage-address", "fota.storage-start-address", "fota.block-device-type"),
        ("update-client.storage-address", "update-client.storage-size"),
    ),
    (("sotp-section-1-address", "nvstore.area_1_address", "internal_base_address"), _SOTP),
)


def layout_for(row: BoardRow, folder: Path | None = None) -> FlashLayout:
    """Return where everything lies in a board's flash; folder: the project's, else the one that images come from.

    A file without a section for the board's target says nothing of it.

    Raises:
        ConfigError: by the file this board cannot be.
    """
    file = (folder or project_folder()) / MBED_APP
    document = read_mbed_app(file)
    sections = document.get("target_overrides")
    if not isinstance(sections, Mapping) or not isinstance(sections.get(row.target), Mapping):
        return row.layout()
    said = {key: value for key, value in overrides(document, row.target).items() if value is not None}
    config: dict[str, Any] = row.settings()
    for names, superseded in _PLACES:
        if any(key.endswith(name) for key in said for name in names):
            config = {key: value for key, value in config.items() if key not in superseded}
    if survey_config(said, row.geometry(), candidate_on=row.storage).candidate_on == INTERNAL:
        config = {key: value for key, value in config.items() if not key.startswith("update-client.storage-")}
    try:
        return _place(row, config, said)
    except ConfigError as error:
        raise ConfigError(f"{file}: {error.message}", hint=error.hint) from error


def _place(row: BoardRow, config: Mapping[str, Any], said: Mapping[str, Any]) -> FlashLayout:
    """Return the layout, with SOTP sections that can be.

    Where a candidate in flash takes the catalogue's, they go before it. A file may have sections of 2 KiB, which
    NVStore does not take on real boards either; they are the catalogue's then.
    """
    try:
        layout = from_settings(row, {**config, **said})
    except ConfigError:
        left = {key: value for key, value in config.items() if key not in _SOTP}
        if len(left) == len(config):
            raise
        layout = from_settings(row, {**left, **said})
    if min(area.size for area in layout.sotp) >= NVStore.min_area:
        return layout
    without = {key: value for key, value in said.items() if not any(name in key for name in _SOTP_NAMES)}
    kept = {key: value for key, value in row.settings().items() if key in _SOTP}
    return from_settings(row, {**config, **kept, **without})


def from_settings(row: BoardRow, config: Mapping[str, Any]) -> FlashLayout:
    """Return the layout of a board by settings of its target.

    Raises:
        ConfigError: by them this board cannot be.
    """
    layout = FlashLayout.from_config(config, row.geometry(), candidate_on=row.storage, storage_size=row.storage_size)
    if layout.candidate_on not in (INTERNAL, row.storage):
        raise ConfigError(
            f"the candidate is to lie on {layout.candidate_on}, but a {row.target} has {row.storage}",
            hint="look at target.components_add in mbed_app.json",
        )
    return layout


def settings_of(layout: FlashLayout) -> dict[str, Any]:
    """Return settings that make this layout again, for the board's files."""
    start = layout.geometry.start
    inside = layout.candidate_on == INTERNAL
    settings: dict[str, Any] = {
        "target.header_offset": layout.header_offset,
        "target.app_offset": layout.app_offset,
        "target.components_add": [layout.candidate_on],
        "update-client.storage-address": layout.candidate.offset + (start if inside else 0),
        "update-client.storage-size": layout.candidate.size,
        "update-client.storage-locations": layout.storage_locations,
    }
    if layout.application_limit is not None:
        settings["mbed-bootloader.max-application-size"] = layout.application_limit
    for number, area in enumerate(layout.sotp, 1):
        settings[f"sotp-section-{number}-address"] = start + area.offset
        settings[f"sotp-section-{number}-size"] = area.size
    return settings


def move_sotp(flash: Medium, before: FlashLayout, now: FlashLayout) -> None:
    """Bring the root of trust to where a changed layout has it; without sections of one size they begin blank."""
    if before.sotp == now.sotp:
        return
    kept = [flash.peek(area.offset, area.size) for area in before.sotp]
    for area, data in zip(now.sotp, kept, strict=True):
        flash.poke(area.offset, data if len(data) == area.size else b"\xff" * area.size)
