"""What docs/formats.md says, as far as this client needs it: signatures, keys, logs, receipts, directory, envelopes.

Pure but for the clock and randomness; numbers in comments are sections of formats.md. Ed25519 is verified by OpenSSL,
which does not refuse keys of small order: a party in earnest must (4).
"""

import base64
import hashlib
import os
import struct
import time
import uuid

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from stubs import envelope_pb2, leaf_pb2

SUITE, PUBLIC_KEY_BYTES, WRAP_BYTES = 2, 1_216, 1_168  # X-Wing (5)
BODY_LIMIT, REQUEST_LIMIT = 1_048_576, 1_239_039  # (2, 14)
SMALLEST_BODY = 1024 + 16  # the padding floor and a tag (9)
DAY_MS = 24 * 60 * 60 * 1000


class NotGood(Exception):
    """Something that does not verify."""


def require(condition, what):
    if not condition:
        raise NotGood(what)


def unbase64(text):
    return base64.b64decode(text, validate=True)


def sha256(*parts):
    return hashlib.sha256(b"".join(parts)).digest()


def now_ms():
    return time.time_ns() // 1_000_000


# --- Signatures (4), key files (15) -----------------------------------------------------------------------------------


def pre_authentication_encoding(kind, payload):
    name = f"application/vnd.liaison.{kind}".encode()
    return b"DSSEv1 %d %s %d " % (len(name), name, len(payload)) + payload


def sign(key, kind, payload):
    return envelope_pb2.Signature(algorithm=1, value=key.sign(pre_authentication_encoding(kind, payload)))


def verifies(key, message, signature):
    try:
        Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        return True
    except InvalidSignature:
        return False


def is_signed(key, kind, payload, signature):
    return signature.algorithm == 1 and verifies(key, pre_authentication_encoding(kind, payload), signature.value)


def read_key(path):
    line = next(line for line in path.read_text().splitlines() if not line.startswith("#"))
    form, kind, value = line.split(" ")
    require((form, kind) == ("liaison-key-v1", "ed25519"), f"{path.name} is no key file for Ed25519")
    return Ed25519PrivateKey.from_private_bytes(unbase64(value))


# --- Logs and receipts (12, 13) ---------------------------------------------------------------------------------------


def leaf_hash(leaf):
    return sha256(b"\x00", leaf)


def node_hash(left, right):
    return sha256(b"\x01", left, right)


def tree_root(hashes):
    """Root of a tree over leaf hashes (RFC 6962, 2.1)."""
    if len(hashes) < 2:
        return hashes[0] if hashes else sha256(b"")
    split = 1 << (len(hashes) - 1).bit_length() - 1
    return node_hash(tree_root(hashes[:split]), tree_root(hashes[split:]))


def root_of_proof(leaf, index, size, path):
    """The root that an inclusion proof leads to (RFC 9162, 2.1.3.2); None when the path has the wrong length."""
    node, last, root = index, size - 1, leaf_hash(leaf)
    for sibling in path:
        if last == 0:
            return None
        if node % 2 or node == last:
            root = node_hash(sibling, root)
            while node % 2 == 0 and node:
                node, last = node >> 1, last >> 1
        else:
            root = node_hash(root, sibling)
        node, last = node >> 1, last >> 1
    return root if last == 0 else None


def verified_checkpoint(note, log):
    """Size and root of a checkpoint that has exactly one good signature of a log of the charter."""
    text, _, signatures = note.partition("\n\n")
    text += "\n"
    origin, size, root = text.splitlines()[:3]
    key = unbase64(log["key"])
    key_id = sha256(origin.encode(), b"\x0a\x01", key)[:4]
    lines = [line.split(" ") for line in signatures.splitlines()]
    own = [unbase64(value) for dash, name, value in lines if (dash, name) == ("\u2014", origin)]
    own = [value[4:] for value in own if value[:4] == key_id]
    good = origin == log["origin"] and len(own) == 1 and verifies(key, text.encode(), own[0])
    require(good, f"the checkpoint of {log['origin']} is not good")
    return int(size), unbase64(root)


def verified_leaf(receipt, log):
    """Index and parsed leaf of a receipt whose checkpoint and inclusion proof hold."""
    head, _, checkpoint = receipt.proof.decode().partition("\n\n")
    magic, index, *path = head.split("\n")
    index, path = int(index.removeprefix("index ")), [unbase64(line) for line in path]
    size, root = verified_checkpoint(checkpoint, log)
    require(magic == "c2sp.org/tlog-proof@v1" and index < size, "the receipt is malformed")
    require(root_of_proof(receipt.leaf, index, size, path) == root, "the leaf is not in the tree of its checkpoint")
    return index, leaf_pb2.ExchangeLeaf.FromString(receipt.leaf)


def entries(bundle):
    """The entries of a C2SP bundle: each with its length before it."""
    while bundle:
        (length,) = struct.unpack_from(">H", bundle)
        yield bundle[2 : 2 + length]
        bundle = bundle[2 + length :]


# --- The directory (5) ------------------------------------------------------------------------------------------------


def replay(leaves, charter):
    """Signing key of every office, and the name of its key of our suite to seal to. Revocations are not understood."""
    authorities = {country["code"]: unbase64(country["authority"]) for country in charter["country"]}
    signing, newest = {}, {}
    for number, leaf in enumerate(leaves):
        record = leaf_pb2.DirectoryLeaf.FromString(leaf).record
        if record.HasField("office"):
            own, office = record.office, leaf_pb2.Office.FromString(record.office.office)
            good = is_signed(
                authorities[office.office[:2]], "office-record.v1+protobuf", own.office, own.authority_signature
            )
            signing[office.office] = office.signing_key
        elif record.HasField("key"):
            own, key = record.key, leaf_pb2.EncryptionKey.FromString(record.key.key)
            good = is_signed(signing[key.office], "key-record.v1+protobuf", own.key, own.office_signature)
            if key.suite == SUITE and key.not_before_ms <= now_ms():
                good = good and len(key.public_key) == PUBLIC_KEY_BYTES
                name = sha256(struct.pack(">H", key.suite), key.public_key)
                # The later leaf on a tie.
                newest[key.office] = max(newest.get(key.office, (0, 0, b"")), (key.not_before_ms, number, name))
        else:
            good = record.HasField("charter") and number == 0
        require(good, f"entry {number} of the directory log is not good")
    return signing, {office: name for office, (_, _, name) in newest.items()}


# --- Envelopes (6, 7) -------------------------------------------------------------------------------------------------


def uuid7(at_ms):
    random = int.from_bytes(os.urandom(10))
    return uuid.UUID(int=at_ms << 80 | random & ~(0xF << 76 | 0x3 << 62) | 0x7 << 76 | 0x2 << 62).bytes


def envelope(sender, recipient, change=lambda core, commitments: None, body=None):
    """A sound message from one office to another, but for `change`, which is made before it is signed.

    Body and wrap are random bytes of the right size: the broker has no key to open them with, and could not tell.
    """
    at = now_ms()
    body, wrap, name = body or os.urandom(SMALLEST_BODY), os.urandom(WRAP_BYTES), uuid7(at)
    core = envelope_pb2.Core(
        version=1, message_id=name, thread_id=name, kind="KIND_TEST", step="STEP_SENT", schema_version=1,
        to=[recipient.office], corridor=sender.corridor(recipient), created_at_ms=at, created_offset_minutes=420,
        priority="PRIORITY_ROUTINE", handling="HANDLING_H0", tlp="TLP_GREEN", data_class="DATA_CLASS_P0",
        legal_basis=["LEGAL_BASIS_COMMIT"], purpose="PURPOSE_PREVENT", language="eng", suite=SUITE,
        **{"from": sender.office},
    )  # fmt: skip
    commitments = envelope_pb2.Commitments(body_sha256=sha256(body), body_size=len(body), key_commitment=os.urandom(32))
    commitments.recipients.add(key_sha256=sender.keys[recipient.office], wrap_sha256=sha256(wrap))
    change(core, commitments)
    # Canonical (2): python-protobuf writes fields in the order of their numbers, packed, without default values.
    header = envelope_pb2.Header(core=core.SerializeToString(), commitments=commitments).SerializeToString()
    signature = sign(sender.signing, "header.v1+protobuf", header)
    erasable = envelope_pb2.ErasableSide(wraps=[wrap])
    return envelope_pb2.Envelope(header=header, office_signature=signature, erasable=erasable, body=body)


def message_id(made):
    return envelope_pb2.Core.FromString(envelope_pb2.Header.FromString(made.header).core).message_id
