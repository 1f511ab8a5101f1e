"""What the notebooks measure: each function takes a board and one point of a sweep, and returns its rows.

They live here and not in the notebooks so that a run can be repeated from its sidecar alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pdmlab.lazy import lazily

if TYPE_CHECKING:
    from pdmlab.measurements.booting import start_up
    from pdmlab.measurements.calibrating import calibrate
    from pdmlab.measurements.calibration import Calibration
    from pdmlab.measurements.downloads import http_download
    from pdmlab.measurements.files import file_transfer, log_stream
    from pdmlab.measurements.firmware_updates import firmware_update
    from pdmlab.measurements.managing import Asked, ask, run_until_registered
    from pdmlab.measurements.notifications import temperatures, told
    from pdmlab.measurements.power_cuts import Replay, power_cut, replay, replay_code
    from pdmlab.measurements.recommendation import Recommendation
    from pdmlab.measurements.recommending import recommend
    from pdmlab.measurements.refusing import refused_updates
    from pdmlab.measurements.tcp_check import compare_tcp
    from pdmlab.measurements.update_cuts.exploring import CutPlan, explore_update
    from pdmlab.measurements.update_cuts.faults import compare_bootloaders
    from pdmlab.measurements.update_cuts.report import UpdateReport
    from pdmlab.measurements.volumes import VolumeSetup

_HOMES = {
    "Asked": "managing",
    "Calibration": "calibration",
    "CutPlan": "update_cuts.exploring",
    "Recommendation": "recommendation",
    "Replay": "power_cuts",
    "UpdateReport": "update_cuts.report",
    "VolumeSetup": "volumes",
    "ask": "managing",
    "calibrate": "calibrating",
    "compare_bootloaders": "update_cuts.faults",
    "compare_tcp": "tcp_check",
    "explore_update": "update_cuts.exploring",
    "file_transfer": "files",
    "firmware_update": "firmware_updates",
    "http_download": "downloads",
    "log_stream": "files",
    "power_cut": "power_cuts",
    "recommend": "recommending",
    "refused_updates": "refusing",
    "replay": "power_cuts",
    "replay_code": "power_cuts",
    "run_until_registered": "managing",
    "start_up": "booting",
    "temperatures": "notifications",
    "told": "notifications",
}
__all__ = [
    "Asked",
    "Calibration",
    "CutPlan",
    "Recommendation",
    "Replay",
    "UpdateReport",
    "VolumeSetup",
    "ask",
    "calibrate",
    "compare_bootloaders",
    "compare_tcp",
    "explore_update",
    "file_transfer",
    "firmware_update",
    "http_download",
    "log_stream",
    "power_cut",
    "recommend",
    "refused_updates",
    "replay",
    "replay_code",
    "run_until_registered",
    "start_up",
    "temperatures",
    "told",
]

__getattr__ = lazily(__name__, _HOMES)
