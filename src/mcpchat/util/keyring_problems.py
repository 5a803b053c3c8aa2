"""What is wrong with the OS keyring, in words for its user, from the errors of the keyring libraries."""

import sys
from typing import NamedTuple

_LOCKED_CODES = ("-25308", "-25293")  # macOS: no dialog is possible, as over SSH; the password was refused
_NO_KEYRING_KINDS = frozenset({"NoKeyringError", "InitError", "SecretServiceNotAvailableException"})


class KeyringProblem(NamedTuple):
    message: str
    hint: str


def describe_keyring_error(error: Exception) -> KeyringProblem:
    """Say why the keyring cannot be used, without the words of its libraries."""
    kind, text = type(error).__name__, str(error)
    if "Locked" in kind or "dismissed" in text or any(code in text for code in _LOCKED_CODES):
        return KeyringProblem("the keyring is locked and was not unlocked", "unlock it, then try again")
    if kind == "NoKeyringError":
        return KeyringProblem(
            "there is no keyring (on Linux: no Secret Service on the session bus)",
            "install gnome-keyring or KeePassXC",
        )
    if kind in _NO_KEYRING_KINDS or isinstance(error, OSError) or "DBus" in text:
        return KeyringProblem(
            "the keyring does not answer (on Linux: DBUS_SESSION_BUS_ADDRESS names no running session bus)",
            "start it, or log in to a desktop session",
        )
    return KeyringProblem("the keyring refused", f"{sys.executable} -m keyring diagnose shows what is in use")
