"""The brokers that are compared, and what scripts need to have them."""

from .brokers.aedes import Aedes
from .brokers.erlang import Emqx, RabbitMq, VerneMq
from .brokers.flashmq import FlashMq
from .brokers.given import Given
from .brokers.hivemq import HiveMq
from .brokers.mosquitto import CURRENT, Mosquitto, versions
from .brokers.nanomq import NanoMq
from .brokers.nats import Nats
from .brokers.ringmq import Ringmq
from .brokers.rust import Rmqttd, Rumqttd
from .install import PEERS, RINGLOAD, ROOT, TARGET, Missing, attempt, build_release, cargo, debian, say, which
from .peer import Certificates, Place

__all__ = ["ALL", "PEERS", "RINGLOAD", "ROOT", "TARGET", "Certificates", "Given", "Missing", "Place", "Ringmq", "attempt",
           "build_release", "cargo", "debian", "quick", "say", "which"]

ALL = [Ringmq(), FlashMq(), Mosquitto(), *versions(), NanoMq(), Rumqttd(), Rmqttd(), Nats(), RabbitMq(), Emqx(), VerneMq(), HiveMq(), Aedes()]

# Which brokers a quick comparison takes, as far as they are there: the first ones.
QUICK = ("flashmq", CURRENT, "mosquitto", "nanomq", "emqx", "nats", "rabbitmq")
QUICK_MAX = 2


def quick(every):
    """Ringmq and two others, none of which has to be installed."""
    there = {peer.name: peer for peer in every if peer.name in QUICK and peer.is_there()}
    return [every[0], *[there[name] for name in QUICK if name in there][:QUICK_MAX]]
