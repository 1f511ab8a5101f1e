"""Credentials in a notebook: the C file that a board is built with, made and handed out as a download."""

from __future__ import annotations

import base64
import threading
from html import escape
from typing import TYPE_CHECKING

import ipywidgets

from pdmlab.errors import PdmlabError
from pdmlab.widgets.view import View

if TYPE_CHECKING:
    from pdmlab.cloud.client import Cloud

C_FILE = "mbed_cloud_dev_credentials.c"


class CredentialsView(View):
    """A name, a button, and the file; what is shown holds a private key, and so its still picture does not."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self.name = ipywidgets.Text(placeholder="a name, new in the account")
        self.make = ipywidgets.Button(
            description="Make credentials", tooltip="cloud.developer_credentials(name).to_c()"
        )
        self.file = ipywidgets.HTML()
        self.problem = ipywidgets.HTML()
        self.make.on_click(lambda _: threading.Thread(target=self.work, name="pdmlab-view", daemon=True).start())
        said = f"<i>{C_FILE}: cloud.developer_credentials(name).to_c()</i>"
        super().__init__([ipywidgets.HBox([self.name, self.make]), self.file, self.problem], still=lambda: said)

    def work(self) -> None:
        """Make the credentials, and show the file as a download."""
        name = str(self.name.value).strip()
        try:
            text = self._cloud.developer_credentials(name).to_c()
        except PdmlabError as error:
            self.problem.value = f"<pre>{escape(str(error))}</pre>"
            return
        data = base64.b64encode(text.encode()).decode()
        self.file.value = (
            f"<a download='{C_FILE}' href='data:text/x-c;base64,{data}'>{C_FILE}</a> of <b>{escape(name)}</b>:"
            " compiled into firmware, it brings the board here; it has a private key in it"
        )
        self.problem.value = ""

    def close(self) -> None:
        """Take the view off the page, with the file in it."""
        if hasattr(self, "file"):  # ipywidgets also closes what was never set up, from __del__
            self.file.value = ""
        super().close()


def credentials(cloud: Cloud) -> CredentialsView:
    """Make the C file of a board's credentials. By calls: cloud.developer_credentials(name).to_c()."""
    return CredentialsView(cloud)
