"""Checks a broker that takes tokens (JWT) with paho-mqtt and tokens that PyJWT signs, speaking 3.1.1 and 5.0.

Usage: tokens.py HOST PORT

The broker has the key of TOKEN_KEY (a private key in PEM, ES256, named `dev`), fetches further keys from
http://127.0.0.1:MQTT_PAGE_PORT/keys, which is served here, and is the audience `mqtt`; its leeway is 0. Prints one
line per scenario, `ok NAME` or `FAIL NAME: why`, and exits with 1 if one failed.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm

from client import V311, V5, Place, check, check_equal

KEY = Path(os.environ["TOKEN_KEY"]).read_text()
SECONDS = 60
RULES = {"publish": ["out/%c/#", "both"], "subscribe": ["in/%c/#", "both"], "deny_publish": ["out/+/never"]}


def main(host, port):
    failed = 0
    remote = Remote(int(os.environ["MQTT_PAGE_PORT"]))
    for version, prefix in ((V311, "3.1.1"), (V5, "5.0")):
        for body in (rules_hold, wrong_tokens_are_refused, it_ends_with_its_token, keys_come_from_the_network):
            name = f"{prefix}/{body.__name__}"
            place = Place(host, port, version, f"py-{os.getpid()}-{prefix}-{body.__name__}")
            try:
                body(place, remote)
                print(f"ok {name}", flush=True)
            except Exception as error:  # Whatever went wrong is the scenario's result.
                failed += 1
                print(f"FAIL {name}: {type(error).__name__}: {error}", flush=True)
            finally:
                place.close_all()
    return 1 if failed else 0


def token(key=KEY, algorithm="ES256", kid="dev", seconds=SECONDS, **claims):
    now = int(time.time())
    whole = {"sub": "dev-7", "aud": "mqtt", "iat": now, "exp": now + seconds, "acl": RULES} | claims
    return jwt.encode({k: v for k, v in whole.items() if v is not None}, key, algorithm, {"kid": kid})


def rules_hold(place, _remote):
    client = place.client("a", token=token())
    me = f"{place.tag}-a"
    codes = client.subscribe((f"in/{me}/#", 1), ("both", 1), ("other", 1))
    check_equal([int(code.value) >= 0x80 for code in codes], [False, False, True], "refused")
    client.publish_settled("both", b"1")
    check_equal([m.topic for m in client.receive(1)], ["both"], "topics")
    denied = [client.publish_settled(topic, b"2") for topic in (f"out/{me}/never", "out/other/x", f"in/{me}/x")]
    if place.version == V5:
        check_equal([int(code.value) for code in denied], [0x87] * 3, "reasons")
    client.publish_settled("both", b"3")
    check_equal([m.payload for m in client.receive(1)], [b"3"], "payloads")


def wrong_tokens_are_refused(place, _remote):
    header, claims, signature = token().split(".")
    secret = Path(os.environ["TOKEN_KEY"]).with_suffix(".pem").read_bytes()
    unsigned = jwt.encode({"sub": "dev-7", "aud": "mqtt", "exp": int(time.time()) + 60}, None, "none")
    wrong = {
        "late": token(seconds=-1),
        "early": token(nbf=int(time.time()) + 60),
        "audience": token(aud="other"),
        "no audience": token(aud=None),
        "no end": token(exp=None),
        "no user": token(sub=None),
        "unsigned": unsigned,
        "other claims": ".".join((header, token(sub="root").split(".")[1], signature)),
        "a public key as secret": forge(secret),
        "rules that are none": token(acl={"publish": ["a/#/b"]}),
        "no token": "secret",
    }
    for name, text in wrong.items():
        try:
            place.client(name.replace(" ", "-"), token=text)
        except AssertionError as error:
            check("refused" in str(error), f"{name}: {error}")
            continue
        raise AssertionError(f"{name}: let in")


def forge(secret):
    import base64
    import hashlib
    import hmac

    def encode(data):
        return base64.urlsafe_b64encode(data).rstrip(b"=")

    header = encode(json.dumps({"alg": "HS256", "kid": "dev"}).encode())
    claims = encode(json.dumps({"sub": "dev-7", "aud": "mqtt", "exp": int(time.time()) + 60}).encode())
    signed = header + b"." + claims
    return (signed + b"." + encode(hmac.digest(secret, signed, hashlib.sha256))).decode()


def it_ends_with_its_token(place, _remote):
    watcher = place.client("w", token=token(acl={"subscribe": ["gone"]}))
    watcher.subscribe(("gone", 1))
    will = {"topic": "gone", "payload": place.tag.encode(), "qos": 1}
    client = place.client("a", token=token(seconds=3, acl={"publish": ["gone"]}), will=will)
    client.wait(lambda: client.closed, "end of the connection")
    if place.version == V5:
        check_equal(int(client.closed[0].value), 0x87, "reason")
    check_equal([m.payload for m in watcher.receive(1)], [place.tag.encode()], "will")


def keys_come_from_the_network(place, remote):
    for kid, algorithm, private in remote.signers:
        text = token(private, algorithm, kid)
        deadline = time.monotonic() + 30
        while True:
            try:
                place.client(f"{kid}-{time.monotonic_ns()}", token=text)
                break
            except AssertionError as error:  # "Server unavailable" until the broker has fetched the keys.
                check(time.monotonic() < deadline and "navailable" in str(error), f"{kid}: {error}")
                time.sleep(0.2)


class Remote:
    """An issuer that publishes its keys."""

    def __init__(self, port):
        ed, rs = ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)
        self.signers = [("ed", "EdDSA", ed), ("rs", "RS256", rs), ("ps", "PS256", rs)]
        keys = [
            OKPAlgorithm.to_jwk(ed.public_key(), as_dict=True) | {"kid": "ed"},
            RSAAlgorithm.to_jwk(rs.public_key(), as_dict=True) | {"kid": "rs", "use": "sig"},
            RSAAlgorithm.to_jwk(rs.public_key(), as_dict=True) | {"kid": "ps", "alg": "PS256"},
            {"kty": "RSA", "use": "enc", "kid": "other", "n": "AQAB", "e": "AQAB"},
        ]
        body = json.dumps({"keys": keys}).encode()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
