"""A device of a campaign, closely: how far it is, why it ended so, what lies in its slots, what its bootloader said."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from pdmlab.cloud.frames import frame_of
from pdmlab.lwm2m.paths import Path
from pdmlab.lwm2m.registry import core_objects
from pdmlab.update import device_words

if TYPE_CHECKING:
    import pandas as pd

SLOT_COLUMNS = (
    "slot", "medium", "offset_B", "size_B", "state", "version", "version_number", "image_B", "digest", "detail",
)  # fmt: skip
KNOWN_COLUMNS = ("path", "name", "value")
_MONO = "font-family:monospace;overflow-wrap:anywhere;min-width:15em"
_PERCENT = re.compile(r"\d{1,3} ?%")
_NOT_ASKED = "It has not been asked yet for its slots and its bootloader's log: that happens when its update has ended."
_TELLS_NOT = (
    "This device does not tell what lies in its slots, nor what its bootloader printed: stock boards do not, virtual"
    " ones do. Its console has the bootloader's lines. What it does tell:"
)


class CampaignDevice:
    """What a service knew of a campaign's device when it was asked; get it with `campaign.device(id)`."""

    def __init__(self, told: Mapping[str, Any]) -> None:  # Any: whatever JSON can hold
        self._told = dict(told)
        words = told.get("words")
        self._words = device_words.whole(words) if isinstance(words, dict) else None

    @property
    def device_id(self) -> str:
        """Its id."""
        return str(self._told["device_id"])

    @property
    def endpoint_name(self) -> str:
        """Its endpoint name; "" where the device is gone."""
        return str(self._told.get("endpoint_name") or "")

    @property
    def phase(self) -> str:
        """What it does: waiting, sending, accepted, downloading …, then success, fail or skipped."""
        return str(self._told["phase"])

    @property
    def description(self) -> str:
        """The same in a sentence, and how it ended."""
        return str(self._told.get("description") or "")

    @property
    def left_s(self) -> float | None:
        """How long the rest of its download takes (s, host clock); None where that is not known, or nothing is left."""
        left = self._told.get("left_s")
        return None if left is None else float(left)

    @property
    def reason(self) -> str:
        """Why it ended so, in its own words where it has them, and what to do; "" where nothing has to be explained."""
        found = self._told.get("reason")
        if not found:
            return ""
        number = "" if found["result"] is None else f"result {found['result']}: "
        own = f"The device says: {self.refusal}. " if self.refusal and number else ""
        return f"{own}{number}{found['meaning']}. {found['advice'][:1].upper()}{found['advice'][1:]}."

    @property
    def tells(self) -> bool:
        """Whether it has told its slots and its bootloader's log."""
        return self._words is not None

    @property
    def bootloader(self) -> str:
        """Its bootloader's name: fota, mbed or trial; "" where it does not tell."""
        return str(self._words["bootloader"]) if self._words else ""

    @property
    def boot_log(self) -> str:
        """What its bootloader printed at its last start; "" where it does not tell."""
        return str(self._words["log"]) if self._words else ""

    @property
    def refusal(self) -> str:
        """What its update client last refused, and why, in its own words; "" where it does not tell, or has not."""
        return str(self._words["refusal"]) if self._words else ""

    def slots(self) -> pd.DataFrame:
        """Return what lies in its slots, a row a slot; no row where it does not tell."""
        rows = []
        for slot in self._words["slots"] if self._words else ():
            header = slot["header"] or {}
            rows.append(
                {
                    "slot": slot["name"],
                    "medium": slot["medium"],
                    "offset_B": slot["offset"],
                    "size_B": slot["size"],
                    "state": slot["state"],
                    "version": header.get("version"),
                    "version_number": header.get("number"),
                    "image_B": header.get("size"),
                    "digest": header.get("digest"),
                    "detail": slot["detail"],
                }
            )
        return frame_of(rows, SLOT_COLUMNS)

    def known(self) -> pd.DataFrame:
        """Return what stock devices tell of their firmware, as the service knows it: path, name, value."""
        return frame_of(self._known(), KNOWN_COLUMNS)

    def _known(self) -> list[dict[str, str]]:
        rows = []
        for each in self._told.get("known") or ():
            path = str(each["path"])
            definition = core_objects().resource(Path.parse(path))
            data = base64.b64decode(each.get("payload") or "")
            opaque = definition is not None and definition.type == "opaque"
            value = data.hex() if opaque else data.decode("utf-8", "replace")
            rows.append({"path": path, "name": core_objects().name(Path.parse(path)), "value": value[:200]})
        return rows

    def __repr__(self) -> str:
        who = self.endpoint_name or self.device_id
        slots = ", ".join(
            f"{slot['name']} {slot['state']}" + (f" {slot['header']['version']}" if slot["header"] else "")
            for slot in (self._words["slots"] if self._words else ())
        )
        return f"<CampaignDevice {who}, {self.phase}{'; ' + slots if slots else ''}>"

    def _repr_html_(self) -> str:
        who = escape(self.endpoint_name or self.device_id)
        return f"<div><b>{who}</b>: {escape(self.phase)}. {escape(self.description)}</div>{self.panel()}"

    def panel(self) -> str:
        """Return all but how far it is as HTML: the reason, slots to scale and decoded, the log, what it refused."""
        parts = [self._why()]
        if self._words is None:
            asked = self._told.get("told_at") is not None
            parts.append(f"<p>{escape(_TELLS_NOT if asked else _NOT_ASKED)}</p>")
            parts.append(_table(("path", "what it is", "value"), [tuple(row.values()) for row in self._known()]))
        else:
            parts += [self._slot_table(), self._log()]
        return "".join(filter(None, parts))

    def _why(self) -> str:
        found, rows = self._told.get("reason"), [("the device's own words", self.refusal)]
        if found:
            number = "" if found["result"] is None else f" (result {found['result']})"
            meaning, cause, advice = (
                str(found.get(name) or "")[:1].upper() + str(found.get(name) or "")[1:]
                for name in ("meaning", "cause", "advice")
            )
            rows += [("why", f"{meaning}{number}"), ("most likely", cause), ("what to do", advice)]
        rows = [(name, value) for name, value in rows if value]
        cells = "".join(f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>" for name, value in rows)
        return f"<dl class='why'>{cells}</dl>" if rows else ""

    def _slot_table(self) -> str:
        words = self._words or {}
        if words["problem"]:
            return f"<p>Its slots cannot be read: {escape(words['problem'])}</p>"
        rows = []
        for slot in words["slots"]:
            header = slot["header"]
            more = "" if header is None else ", ".join(f"{key} {value}" for key, value in header["more"].items())
            rows.append(
                (
                    slot["name"],
                    f"{slot['medium']} 0x{slot['offset']:x}..0x{slot['offset'] + slot['size']:x}",
                    slot["state"] + (f": {slot['detail']}" if slot["detail"] else ""),
                    header["version"] if header else "–",
                    f"{header['size']:,} B of {slot['size']:,} B" if header else f"room for {slot['size']:,} B",
                    f"{header['digest']}" if header else "–",
                    more or "–",
                )
            )
        head = ("slot", "where", "state", "version", "image", "SHA-256", "header's other fields")
        picture = f"<div class='scroll' style='overflow-x:auto'>{device_words.picture(words)}</div>"
        return picture + _table(head, rows, mono=(5, 6))

    def _log(self) -> str:
        words = self._words or {}
        title = f"Bootloader {words['bootloader']}: what it printed at the last start"
        text = escape(folded(words["log"])) or "<i>nothing</i>"
        return f"<p class='title'>{escape(title)}</p><pre class='bootlog'>{text}</pre>"


def folded(log: str) -> str:
    """Return a log with each run of lines that tell a percentage, such as "Flashing 5%", as one line."""
    lines: list[str] = []
    for line in log.split("\n"):
        bare = _PERCENT.sub("%", line)
        if lines and bare != line and _PERCENT.sub("%", lines[-1].split(" … ")[0]) == bare:
            first = lines[-1].split(" … ")[0]
            lines[-1] = f"{first} … {_PERCENT.findall(line)[-1]}"
        else:
            lines.append(line)
    return "\n".join(lines)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], mono: Sequence[int] = ()) -> str:
    """Return a table; long words in the columns of `mono` may be broken anywhere."""
    if not rows:
        return ""
    cells = "".join(f"<th style='text-align:left'>{escape(name)}</th>" for name in head)
    plain = "text-align:left;vertical-align:top"
    looks = [
        f"{plain};font-family:monospace;overflow-wrap:anywhere" if at in mono else plain for at in range(len(head))
    ]
    body = "".join(
        "<tr>"
        + "".join(f"<td style='{look}'>{escape(cell)}</td>" for look, cell in zip(looks, row, strict=True))
        + "</tr>"
        for row in rows
    )
    return f"<div class='scroll' style='overflow-x:auto'><table class='slots'><tr>{cells}</tr>{body}</table></div>"
