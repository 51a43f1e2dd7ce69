"""Boards on USB that are not there: what pyserial and Linux's sysfs would show of them."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from ondevice.disks import disk_of_usb_device

ANY_PORT = SimpleNamespace(device="/dev/ttyS0", description=None, vid=None, pid=None)


@dataclass
class FakeUsb:
    """A file system with sysfs, and the ports that pyserial lists."""

    root: Path
    ports: list[SimpleNamespace] = field(default_factory=list)

    def plug_in(
        self,
        device: str,
        serial_number: str,
        label: str | None = None,
        usb_id: str = "0483:374b",
        mounted: bool = False,
    ) -> Path:
        """An ST-LINK with a port, and with a disk where it has a label; returns its folder."""
        vid, pid = (int(part, 16) for part in usb_id.split(":"))
        number = len(self.ports) + 1
        path = f"/sys/devices/pci0/usb1/1-{number}"
        folder = self.root / "media" / "person name" / (label or "none")
        if label is not None:
            block = f"sd{'abcdefgh'[number]}"
            disk = self.root / path.lstrip("/") / f"1-{number}:1.0/host0/target0:0:0/0:0:0:0"
            (disk / "block" / block).mkdir(parents=True)
            (disk / "block" / block / "dev").write_text(f"8:{16 * number}\n")
            database = self.root / "run/udev/data"
            database.mkdir(parents=True, exist_ok=True)
            (database / f"b8:{16 * number}").write_text(
                f"S:disk/by-label/{label}\nE:ID_FS_TYPE=vfat\nE:ID_FS_LABEL={label}\n"
            )
            if mounted:
                folder.mkdir(parents=True, exist_ok=True)
                table = self.root / "proc" / "mounts"
                table.parent.mkdir(exist_ok=True)
                escaped = str(folder).replace(" ", "\\040")
                with table.open("a", encoding="utf-8") as file:
                    file.write(f"proc /proc proc rw 0 0\n/dev/{block} {escaped} vfat rw 0 0\n")
        self.ports.append(
            SimpleNamespace(
                device=device,
                description="STM32 STLink",
                vid=vid,
                pid=pid,
                serial_number=serial_number,
                usb_device_path=path,
            )
        )
        return folder


@pytest.fixture
def usb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeUsb:
    """Only what the test plugs in, and a port that is not on USB, exists."""
    fake = FakeUsb(tmp_path / "root", [])
    fake.root.mkdir()
    monkeypatch.setattr(
        "ondevice.ports.pyserial_ports.comports", lambda: [ANY_PORT, *reversed(fake.ports)]
    )
    monkeypatch.setattr(
        "ondevice.ports.disk_of_usb_device", lambda path: disk_of_usb_device(path, fake.root)
    )
    return fake
