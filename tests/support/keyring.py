"""A keyring in memory."""

from collections.abc import Callable


class Keyring:
    """A keyring that answers with ``read``. It is no subclass of keyring's, which would register it for all tests."""

    def __init__(self, read: Callable[[str, str], str | None]) -> None:
        self._read = read

    def get_password(self, service: str, username: str) -> str | None:
        return self._read(service, username)


class MemoryKeyring(Keyring):
    """A keyring that keeps what is stored."""

    def __init__(self) -> None:
        self.passwords: dict[tuple[str, str], str] = {}
        super().__init__(lambda service, name: self.passwords.get((service, name)))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.passwords[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.passwords[service, username]
