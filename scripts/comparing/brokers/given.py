"""A broker that the user has; starts with a command that has {port} in it."""

import re

from ..peer import Peer, Start

FORM = ("NAME=COMMAND with {port} in the command; {cores} is the number of its cores, {certificate} and {key} are the files "
        "that it needs for TLS")


class Given(Peer):
    def __init__(self, text):
        self.name, separator, self.command = text.partition("=")
        if not separator or "{port}" not in self.command or not re.fullmatch(r"[\w.+-]+", self.name):
            raise ValueError(f"`{text}` is not {FORM}")
        self.lacks = {} if "{certificate}" in self.command else {"tls": "has a command without {certificate}"}

    def version(self):
        return self.command

    def start(self, place):
        command = self.command.replace("{port}", str(place.port)).replace("{cores}", str(len(place.cores)))
        if tls := place.certificates:
            command = command.replace("{certificate}", str(tls.certificate)).replace("{key}", str(tls.key))
        return Start([["sh", "-c", f"exec {command}"]])
