"""What went wrong, by the client's public numbers: MbedCloudClient::Error of mbed-cloud-client 4.13."""

from __future__ import annotations

from enum import IntEnum

from pdmlab.errors import (
    BootstrapFailed,
    ConfigError,
    HandshakeFailed,
    NetworkError,
    PdmlabError,
    ResponseError,
    StorageError,
    TimedOut,
)
from pdmlab.network.nsapi import NsapiError
from pdmlab.update.results import FotaResult


class Error(IntEnum):
    """Members have Mbed's names; codes.toml says what each means and what to do about it."""

    ConnectErrorNone = 0
    ConnectAlreadyExists = 1
    ConnectBootstrapFailed = 2
    ConnectInvalidParameters = 3
    ConnectNotRegistered = 4
    ConnectTimeout = 5
    ConnectNetworkError = 6
    ConnectResponseParseFailed = 7
    ConnectUnknownError = 8
    ConnectMemoryConnectFail = 9
    ConnectNotAllowed = 10
    ConnectSecureConnectionFailed = 11
    ConnectDnsResolvingFailed = 12
    ConnectorFailedToStoreCredentials = 13
    ConnectorFailedToReadCredentials = 14
    ConnectorInvalidCredentials = 15
    UpdateWarningNoActionRequired = 1024
    UpdateWarningCertificateNotFound = 1025
    UpdateWarningIdentityNotFound = 1026
    UpdateWarningVendorMismatch = 1027
    UpdateWarningClassMismatch = 1028
    UpdateWarningDeviceMismatch = 1029
    UpdateWarningCertificateInvalid = 1030
    UpdateWarningSignatureInvalid = 1031
    UpdateWarningBadKeytable = 1032
    UpdateWarningURINotFound = 1033
    UpdateWarningRollbackProtection = 1034
    UpdateWarningAuthorizationRejected = 1035
    UpdateWarningAuthorizationUnavailable = 1036
    UpdateWarningUnknown = 1037
    UpdateCertificateInsertion = 1038
    UpdateErrorUserActionRequired = 1039
    UpdateErrorWriteToStorage = 1054
    UpdateErrorInvalidHash = 1055
    UpdateErrorConnection = 1056
    UpdateFatalRebootRequired = 1057

    def __str__(self) -> str:
        return f"MbedCloudClient::{self.name}"


def error_of(error: PdmlabError) -> Error:
    """Return the number for what broke a bootstrap or a registration."""
    match error:
        case HandshakeFailed():
            return Error.ConnectSecureConnectionFailed
        case TimedOut():
            return Error.ConnectTimeout
        case NetworkError(code=NsapiError.DNS_FAILURE):
            return Error.ConnectDnsResolvingFailed
        case NetworkError():
            return Error.ConnectNetworkError
        case BootstrapFailed():
            return Error.ConnectBootstrapFailed
        case ResponseError(code=code) if code.startswith(("4.00", "4.03")):
            return Error.ConnectInvalidParameters
        case StorageError():
            return Error.ConnectorFailedToStoreCredentials
        case ConfigError():
            return Error.ConnectorInvalidCredentials
        case _:
            return Error.ConnectUnknownError


def error_of_update(result: FotaResult) -> Error:
    """Return the number for a firmware update that ended with a result."""
    return _UPDATES.get(result, Error.UpdateWarningUnknown)


def error_of_hub(result: int) -> Error:
    """Return the number for an update that ended with a result of the hub's (update_client_hub_error_handler.c)."""
    return _HUB_UPDATES.get(result, Error.UpdateErrorUserActionRequired)


_UPDATES = {
    FotaResult.BAD_URI: Error.UpdateWarningURINotFound,
    FotaResult.MANIFEST_SIGNATURE: Error.UpdateWarningSignatureInvalid,
    FotaResult.DOWNLOAD_FAILED: Error.UpdateErrorConnection,
    FotaResult.PAYLOAD_CORRUPTED: Error.UpdateErrorInvalidHash,
    FotaResult.VERSION_TOO_OLD: Error.UpdateWarningRollbackProtection,
    FotaResult.VENDOR_MISMATCH: Error.UpdateWarningVendorMismatch,
    FotaResult.CLASS_MISMATCH: Error.UpdateWarningClassMismatch,
    FotaResult.NO_STORAGE: Error.UpdateErrorWriteToStorage,
    FotaResult.STORAGE_WRITE: Error.UpdateErrorWriteToStorage,
    FotaResult.INSTALL_REFUSED: Error.UpdateWarningAuthorizationRejected,
    FotaResult.DOWNLOAD_REFUSED: Error.UpdateWarningAuthorizationRejected,
}
_HUB_UPDATES = {
    200: Error.UpdateWarningIdentityNotFound,
    207: Error.UpdateWarningSignatureInvalid,
    208: Error.UpdateWarningCertificateNotFound,
    209: Error.UpdateWarningCertificateInvalid,
    210: Error.UpdateWarningSignatureInvalid,
    215: Error.UpdateWarningVendorMismatch,
    216: Error.UpdateWarningClassMismatch,
    221: Error.UpdateWarningRollbackProtection,
    225: Error.UpdateErrorWriteToStorage,
    302: Error.UpdateErrorConnection,
    304: Error.UpdateErrorConnection,
    307: Error.UpdateWarningURINotFound,
    315: Error.UpdateWarningAuthorizationRejected,
    316: Error.UpdateWarningAuthorizationUnavailable,
    503: Error.UpdateErrorWriteToStorage,
    504: Error.UpdateErrorInvalidHash,
    511: Error.UpdateWarningAuthorizationRejected,
    512: Error.UpdateWarningAuthorizationUnavailable,
}
