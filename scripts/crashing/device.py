"""Block devices whose writes are recorded, delayed or failed: an image behind qemu-storage-daemon, which shows it as a
file over FUSE; on that file a loop device, and on that a file system.

Needs root. Whatever is attached is released when the block ends, in whatever way it does.
"""

import contextlib
import json
import os
import socket
import struct
import subprocess
import time

from comparing.peers import attempt, debian, which

IMAGE_SIZE = 4 << 30
# Sparse. It holds whatever is written during one recording.
WRITES_SIZE = 64 << 30
SECTOR = 512
# Of the format of dm-log-writes.
SUPER, ENTRY = struct.Struct("<QQQI"), struct.Struct("<QQQQ")
FLUSH, DISCARD = 1, 4
EXPORTED_MAX_S = 10
UNMOUNT_TRIES = 50
FILE_SYSTEMS = {"ext4": ["mkfs.ext4", "-q"], "xfs": ["mkfs.xfs", "-q"]}
# What nobody syncs is to stay in memory: by itself, ext4 makes changes of names durable every five seconds.
OPTIONS = {"ext4": "commit=300", "xfs": "defaults"}


def install():
    """What this module runs."""
    debian("e2fsprogs", "xfsprogs")
    # The package that has it differs between releases of Debian.
    for package in ("qemu-utils", "qemu-system-common"):
        if not which("qemu-storage-daemon"):
            debian(package)


def make_image(path, file_system, size=IMAGE_SIZE):
    path.touch()
    os.truncate(path, size)
    attempt([*FILE_SYSTEMS[file_system], path])


@contextlib.contextmanager
def mounted(image, folder, options="defaults"):
    """The file system in an image or on a device that shows itself as a file."""
    folder.mkdir(exist_ok=True)
    device = run("losetup", "--find", "--show", image).strip()
    try:
        run("mount", "-o", options, device, folder)
        try:
            yield folder
        finally:
            unmount(folder)
    finally:
        run("losetup", "--detach", device)


def unmount(folder):
    for _ in range(UNMOUNT_TRIES):
        # A process that was killed a moment ago may hold files until the ring in the kernel is gone.
        if subprocess.run(["umount", folder], capture_output=True).returncode == 0:
            return
        time.sleep(0.1)
    run("umount", folder)


@contextlib.contextmanager
def exported(folder, nodes, top, more=()):
    """The file in `folder` as which the node `top` of qemu-storage-daemon shows itself. `more`: further options."""
    path = folder / "export.img"
    path.touch()
    options = [word for node in nodes for word in ("--blockdev", node)]
    command = ["qemu-storage-daemon", *more, *options, "--export", f"type=fuse,id=export,node-name={top},mountpoint={path},writable=on"]
    # Not before this script by a Ctrl-C: what is mounted has to be written first.
    daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        deadline = time.monotonic() + EXPORTED_MAX_S
        while not os.path.ismount(path):
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("qemu-storage-daemon does not export its node: it needs root and /dev/fuse")
            time.sleep(0.01)  # There is no event for "exports".
        yield path
    finally:
        daemon.terminate()
        daemon.wait()


def file_node(name, path, *options):
    # Nothing here is to outlive the machine: what is flushed to the device need not be flushed to what is below it.
    return ",".join(["driver=file", f"node-name={name}", f"filename={path}", "cache.no-flush=on", "discard=unmap", "detect-zeroes=unmap", *options])


class Recording:
    """A file system, and every write and flush that reached its device."""

    def __init__(self, folder, file_system):
        self.folder, self.image, self.writes_path = folder, folder / "recorded.img", folder / "writes.log"
        self.options = OPTIONS[file_system]
        self.base, self.mount_point = folder / "base.img", folder / "mount"
        make_image(self.image, file_system)
        run("cp", "--sparse=always", self.image, self.base)
        self.writes_path.touch()
        os.truncate(self.writes_path, WRITES_SIZE)
        self.writes = self.writes_path.open("rb", buffering=0)
        self.entries, self.applied = [], 0

    @contextlib.contextmanager
    def running(self):
        nodes = [file_node("image", self.image), file_node("writes", self.writes_path),
                 "driver=blklogwrites,node-name=recorder,file=image,log=writes,log-super-update-interval=1"]
        with exported(self.folder, nodes, "recorder") as path, mounted(path, self.mount_point, self.options):
            yield self.mount_point
        self.image.unlink()
        self.read_entries()

    def position(self):
        """How many writes and flushes have been recorded. What was answered before this call is among them."""
        return SUPER.unpack(os.pread(self.writes.fileno(), SUPER.size, 0))[2]

    def read_entries(self):
        _, _, count, sector = SUPER.unpack(os.pread(self.writes.fileno(), SUPER.size, 0))
        assert sector == SECTOR, f"sectors of {sector} bytes"
        at = SECTOR
        for _ in range(count):
            first, sectors, flags, _ = ENTRY.unpack(os.pread(self.writes.fileno(), ENTRY.size, at))
            at += SECTOR
            self.entries.append((first * SECTOR, sectors * SECTOR, flags, at))
            at += 0 if flags & DISCARD else sectors * SECTOR

    def flushes(self):
        return sum(bool(flags & FLUSH) for _, _, flags, _ in self.entries)

    def last_flush(self, position, ignored=0):
        """Where the last flush before a position is; with `ignored`, where it would be if these last ones had not been."""
        for index in range(position - 1, 0, -1):
            if self.entries[index][2] & FLUSH:
                if ignored == 0:
                    return index
                ignored -= 1
        return 0

    def cut(self, position, rng, target, lies=0):
        """Writes the image that a loss of power at a position may leave to `target`: all that was flushed is on it; of
        what came later, anything. Positions must not descend.

        `lies`: how many of the last flushes the drive only pretended to make. It loses what they should have kept,
        and stays in order, so that the file system is sound.
        """
        flush = self.last_flush(position, lies)
        with self.base.open("r+b", buffering=0) as base:
            for index in range(self.applied, flush):
                self.apply(base, index)
        self.applied = max(self.applied, flush)
        run("cp", "--sparse=auto", self.base, target)
        tail = [] if lies else list(range(flush, position))
        rng.shuffle(tail)
        with target.open("r+b", buffering=0) as image:
            for index in tail:
                self.apply(image, index, rng)

    def apply(self, image, index, rng=None):
        """Makes a write; with `rng` it may be lost or torn."""
        offset, size, flags, at = self.entries[index]
        if size == 0 or flags & DISCARD:
            return
        chance = rng.random() if rng else 1
        if chance < LOST:
            return
        data = os.pread(self.writes.fileno(), size, at)
        if chance >= LOST + TORN:
            put(image, offset, data)
            return
        for start in range(0, size, SECTOR):
            if rng.random() < 0.5:
                put(image, offset + start, data[start:start + SECTOR])


class Changeable:
    """A device that gets slow, or fails, when it is told to."""

    # Of these, `top` is one at a time.
    SOUND, SLOW, FAILING = "image", "slow", "failing"

    def __init__(self, folder, file_system, writes_per_s):
        self.folder, self.image, self.writes_per_s = folder, folder / "changeable.img", writes_per_s
        make_image(self.image, file_system)

    @contextlib.contextmanager
    def running(self):
        nodes = [file_node(self.SOUND, self.image), f"driver=throttle,node-name={self.SLOW},file={self.SOUND},throttle-group=limit",
                 f"driver=blkdebug,node-name={self.FAILING},image={self.SOUND},"
                 "inject-error.0.event=none,inject-error.0.iotype=flush,inject-error.0.errno=5",
                 f"driver=raw,node-name=top,file={self.SOUND}"]
        path = self.folder / "control"
        control = ["--chardev", f"socket,id=control,path={path},server=on,wait=off", "--monitor", "chardev=control"]
        throttle = ["--object", f"throttle-group,id=limit,limits.iops-write={self.writes_per_s}"]
        with exported(self.folder, nodes, "top", [*throttle, *control]) as image, socket.socket(socket.AF_UNIX) as self.control:
            self.control.connect(str(path))
            self.answers = self.control.makefile()
            self.ask("qmp_capabilities")
            yield image

    def become(self, node):
        """From `FAILING` there is no way back, as this flushes."""
        self.ask("blockdev-reopen", options=[{"driver": "raw", "node-name": "top", "file": node}])

    def ask(self, command, **arguments):
        self.control.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for line in self.answers:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return


# How often a write that was not flushed is lost, and torn by sectors.
LOST, TORN = 0.4, 0.2


def put(image, offset, data):
    # Zeros on zeros are left out, so that images stay sparse, and are copied quickly.
    if data.count(0) != len(data) or os.pread(image.fileno(), len(data), offset) != data:
        os.pwrite(image.fileno(), data, offset)


def run(*command):
    return subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True).stdout
