"""A client of the exchange that shares no code with it: Python, grpcio, the .proto files and docs/formats.md.

It speaks to a broker over mutual TLS in the name of two offices of a development charter, builds what formats.md
describes, verifies what it gets, and prints a line per check. The first check that fails ends it with exit code 1.
Numbers in comments are sections of formats.md.
"""

import argparse
import functools
import os
import pathlib
import queue
import tomllib

import grpc
from formats import (
    BODY_LIMIT, DAY_MS, REQUEST_LIMIT, NotGood, entries, envelope, is_signed, leaf_hash, message_id, now_ms, read_key,
    replay, require, sha256, sign, tree_root, unbase64, verified_checkpoint, verified_leaf,
)  # fmt: skip
from google.protobuf import descriptor_pb2
from google.rpc import error_details_pb2
from grpc import StatusCode
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from stubs import envelope_pb2, exchange_pb2, exchange_pb2_grpc, leaf_pb2, log_pb2, log_pb2_grpc

PACKAGE = "liaison.exchange.v1"
PATIENCE = 60  # seconds that any call may take on a busy machine


def check(condition, what, detail=""):
    """Prints a check that held, or ends the program."""
    require(condition, f"{what} {detail}".strip())
    print(f"ok  {what}", flush=True)


class Office:
    """An office of the charter: its keys, and a channel in its name."""

    def __init__(self, directory, address, office):
        charter = tomllib.loads((directory / "charter.toml").read_text())
        self.office, self.charter, material = office, charter, directory / "offices" / office
        self.signing, self.receipt = read_key(material / "signing.key"), read_key(material / "receipt.key")
        self.logs = {log["name"]: log for log in charter["log"]}
        self.keys = {}
        credentials = grpc.ssl_channel_credentials(
            root_certificates=charter["broker"]["ca"].encode(),
            private_key=(material / "tls.key").read_bytes(),
            certificate_chain=(material / "tls.pem").read_bytes(),
        )
        options = [("grpc.ssl_target_name_override", charter["broker"]["tls_name"]), ("grpc.enable_http_proxy", 0)]
        self.channel = grpc.secure_channel(address, credentials, options)
        self.exchange = exchange_pb2_grpc.ExchangeStub(self.channel)
        self.attachments = exchange_pb2_grpc.AttachmentsStub(self.channel)

    def corridor(self, other):
        """Name of the corridor to an office of another country (3)."""
        both = {self.office[:2], other.office[:2]}
        return next(c["name"] for c in self.charter["corridor"] if set(c["name"].split("-")) == both)

    def submit(self, made):
        return self.exchange.Submit(exchange_pb2.SubmitRequest(envelope=made), timeout=PATIENCE).receipt

    def verified(self, receipt):
        return verified_leaf(receipt, self.logs["exchange"])

    def has_signed_refusal(self, signed, made, code):
        """Whether the charter's evidence key signed this refusal of this header (14)."""
        said = exchange_pb2.RefusalStatement.FromString(signed.statement)
        is_of = (said.message_id, said.office, said.header_sha256, said.code)
        evidence = unbase64(self.charter["broker"]["evidence_key"])
        return is_of == (message_id(made), self.office, sha256(made.header), code) and is_signed(
            evidence, "refusal.v1+protobuf", signed.statement, signed.signature
        )


def refused(call):
    """How a call fails: its status, and ErrorInfo and RetryInfo of the rich error, each where there is one."""
    try:
        call()
    except grpc.RpcError as error:
        status, found = rpc_status.from_call(error), {}
        for kind in [error_details_pb2.ErrorInfo, error_details_pb2.RetryInfo]:
            for detail in status.details if status else []:
                if detail.Is(kind.DESCRIPTOR):
                    found[kind] = kind.FromString(detail.value)
        return error.code(), found.get(error_details_pb2.ErrorInfo), found.get(error_details_pb2.RetryInfo)
    return StatusCode.OK, None, None


def check_health(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ["", f"{PACKAGE}.Exchange"]:
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=PATIENCE)
        check(answer.status == answer.SERVING, f'over mutual TLS, health of "{service}" is SERVING')


def check_reflection(channel):
    # grpcio-reflection has the messages of v1alpha only; those of v1, which the broker speaks, are the same bytes.
    reflect = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    questions = [{"list_services": ""}, {"file_containing_symbol": f"{PACKAGE}.Exchange"}]
    questions = [reflection_pb2.ServerReflectionRequest(**question) for question in questions]
    services, files = reflect(iter(questions), timeout=PATIENCE)
    names = {service.name for service in services.list_services_response.service}
    ours = {f"{PACKAGE}.{name}" for name in ["Exchange", "Attachments", "Directory", "Log"]}
    check(ours <= names, "reflection lists our four services", names)
    files = files.file_descriptor_response.file_descriptor_proto
    files = [descriptor_pb2.FileDescriptorProto.FromString(file) for file in files]
    found = {m.name for f in files for s in f.service if s.name == "Exchange" for m in s.method}
    generated = {method.name for method in exchange_pb2.DESCRIPTOR.services_by_name["Exchange"].methods}
    check(found == generated, f"reflection describes Exchange with its {len(found)} calls")


def check_directory(office):
    """Fetches, verifies and replays the directory log (5, 13)."""
    stub, directory = log_pb2_grpc.LogStub(office.channel), log_pb2.LOG_NAME_DIRECTORY
    note = stub.Checkpoint(log_pb2.CheckpointRequest(log=directory), timeout=PATIENCE).checkpoint
    size, root = verified_checkpoint(note.decode(), office.logs["directory"])
    leaves = []
    while len(leaves) < size:
        index, width = len(leaves) // 256, min(256, size - len(leaves))
        request = log_pb2.EntriesRequest(log=directory, index=index, width=width)
        leaves.extend(entries(stub.Entries(request, timeout=PATIENCE).bundle))
    check(tree_root([leaf_hash(leaf) for leaf in leaves]) == root, f"{size} directory entries have the signed root")
    signing, office.keys = replay(leaves, office.charter)
    check(office.keys.keys() == signing.keys(), f"{len(signing)} offices have keys, every record its signature")
    own = office.signing.public_key().public_bytes_raw()
    check(signing[office.office] == own, "our signing key is the directory's")


def check_submission(sender, recipient):
    made = envelope(sender, recipient)
    first = sender.submit(made)
    index, leaf = sender.verified(first)
    check(leaf.accepted.header == made.header, f"a message is entry {index}; the charter verifies its receipt")
    check(leaf.accepted.office_signature == made.office_signature, "header and signature in the leaf are those sent")
    check(len(leaf.accepted.numbers) == 1 and not leaf.marks, "it has a number per recipient, and no mark")
    again = sender.submit(made)
    check(again.leaf == first.leaf and sender.verified(again)[0] == index, "a retry gets the same leaf")
    return made


def check_refusals(sender, recipient, accepted):
    """Rich errors: status, code, advice; signed where the header's signature had verified before it was refused (8, 14)."""
    badly_signed, another_body, not_canonical = (envelope(sender, recipient) for _ in range(3))
    badly_signed.office_signature.value = bytes(64)
    another_body.body = b"another"
    not_canonical.header += b"\xf8\x07\x00"  # an unknown field: valid protobuf
    not_canonical.office_signature.CopyFrom(sign(sender.signing, "header.v1+protobuf", not_canonical.header))
    duplicate = envelope(sender, recipient, lambda core, _: setattr(core, "message_id", message_id(accepted)))
    sealed_to_nobody = envelope(sender, recipient, lambda _, c: setattr(c.recipients[0], "key_sha256", bytes(32)))
    old = envelope(sender, recipient, lambda core, _: setattr(core, "created_at_ms", now_ms() - 61 * DAY_MS))
    for made, code, status, is_signed_too in [
        (envelope_pb2.Envelope(), "MALFORMED_ENVELOPE", StatusCode.INVALID_ARGUMENT, False),
        (not_canonical, "MALFORMED_HEADER", StatusCode.INVALID_ARGUMENT, False),
        (envelope(sender, recipient, body=bytes(BODY_LIMIT + 1)), "TOO_LARGE", StatusCode.INVALID_ARGUMENT, False),
        (badly_signed, "BAD_SIGNATURE", StatusCode.PERMISSION_DENIED, False),
        (another_body, "COMMITMENT_MISMATCH", StatusCode.INVALID_ARGUMENT, True),
        (duplicate, "DUPLICATE_ID", StatusCode.ALREADY_EXISTS, True),
        (sealed_to_nobody, "UNKNOWN_KEY", StatusCode.FAILED_PRECONDITION, True),
        (old, "TOO_OLD", StatusCode.FAILED_PRECONDITION, True),
    ]:
        found, info, retry = refused(functools.partial(sender.submit, made))
        good = found == status and info and (info.domain, info.reason) == ("liaison", code) and info.metadata["advice"]
        check(good and retry is None, f"{code} is {status.name} with ErrorInfo and advice, and final", (found, info))
        signed = info.metadata.get("signed_refusal", "")
        if is_signed_too:
            signed = exchange_pb2.SignedRefusal.FromString(unbase64(signed))
            check(sender.has_signed_refusal(signed, made, code), f"{code} is signed by the charter's evidence key")
        else:
            check(not signed, f"{code} is not signed")
    huge = envelope(sender, recipient, body=bytes(REQUEST_LIMIT))
    found, info, _ = refused(functools.partial(sender.submit, huge))
    check((found, info) == (StatusCode.OUT_OF_RANGE, None), "a request beyond the limit of gRPC is no refusal", found)


def check_stream(sender, recipient):
    first, last = envelope(sender, recipient), envelope(sender, recipient)
    bad = envelope(sender, recipient, lambda _, c: setattr(c.recipients[0], "key_sha256", bytes(32)))
    requests = [exchange_pb2.SubmitRequest(envelope=made) for made in [first, bad, last]]
    answers = list(sender.exchange.SubmitStream(iter(requests), timeout=PATIENCE))
    check([answer.position for answer in answers] == [0, 1, 2], "SubmitStream answers three envelopes in their order")
    kinds, refusal = [answer.WhichOneof("answer") for answer in answers], answers[1].refusal
    check(kinds == ["receipt", "refusal", "receipt"], "the bad one in the middle ends nothing but itself", kinds)
    is_final = (refusal.code, refusal.retry_after_ms) == ("UNKNOWN_KEY", 0)
    check(is_final and sender.has_signed_refusal(refusal.signed, bad, refusal.code), "its refusal is final, and signed")
    headers = [sender.verified(answers[n].receipt)[1].accepted.header for n in [0, 2]]
    check(headers == [first.header, last.header], "the receipts of the others verify")


def check_attachment(sender, recipient):
    """A retryable refusal, what it advises to do, and the retry (14)."""
    data = os.urandom(300_000)
    name, part = sha256(data), exchange_pb2.UploadPart
    made = envelope(sender, recipient, lambda _, c: c.attachments.add(sha256=name, size=len(data)))
    found, info, retry = refused(functools.partial(sender.submit, made))
    good = info and info.reason == "ATTACHMENT_MISSING" and retry and retry.HasField("retry_delay")
    check(good and "signed_refusal" not in info.metadata, "ATTACHMENT_MISSING has RetryInfo, no signature", found)
    begun = [part(sha256=name, size=len(data), data=data[:100_000])]
    answer = sender.attachments.Upload(iter(begun), timeout=PATIENCE)
    check((answer.size, answer.complete) == (100_000, False), "an upload that ends early leaves what came")
    held = sender.attachments.Held(exchange_pb2.HeldRequest(sha256=name), timeout=PATIENCE).size
    rest = [part(sha256=name, size=len(data), offset=held, data=data[held:200_000]), part(data=data[200_000:])]
    answer = sender.attachments.Upload(iter(rest), timeout=PATIENCE)
    check((answer.size, answer.complete) == (len(data), True), "the next one goes on from there, and completes it")
    check(sender.verified(sender.submit(made))[1].accepted.header == made.header, "the same bytes are accepted now")
    parts = recipient.attachments.Download(exchange_pb2.DownloadRequest(sha256=name, offset=1), timeout=PATIENCE)
    check(b"".join(part.data for part in parts) == data[1:], "the recipient downloads it, from an offset")


def check_delivery(sender, recipient):
    """The recipient takes two deliveries for one credit each and signs for the first; the sender gets the evidence."""
    requests = queue.SimpleQueue()
    requests.put(exchange_pb2.ReceiveRequest(lane="LANE_BULK", credit=1))
    deliveries = recipient.exchange.Receive(iter(requests.get, None), timeout=PATIENCE)
    first = next(deliveries)
    requests.put(exchange_pb2.ReceiveRequest(credit=1))
    second = next(deliveries)
    requests.put(None)
    deliveries.cancel()
    (index, leaf), (behind, _) = recipient.verified(first.receipt), recipient.verified(second.receipt)
    check(index < behind, "Receive delivers a lane in the order of the log, as credit is granted")
    header = first.envelope.header
    check(leaf.accepted.header == header, "a delivery comes with the receipt of its own entry")
    statement = leaf_pb2.Statement(
        message_id=message_id(first.envelope), office=recipient.office, accepted_index=index,
        header_sha256=sha256(header), number=leaf.accepted.numbers[0], at_ms=now_ms(),
    ).SerializeToString()  # fmt: skip
    signature = sign(recipient.receipt, "delivered.v1+protobuf", statement)
    attested = leaf_pb2.Attested(statement=statement, signature=signature)
    request = exchange_pb2.AttestRequest(kind="STATEMENT_KIND_DELIVERED", attested=attested)
    stated, leaf = recipient.verified(recipient.exchange.Attest(request, timeout=PATIENCE).receipt)
    check(leaf.delivered == attested, f"the recipient's DELIVERED is entry {stated}")
    evidence = sender.exchange.Evidence(exchange_pb2.EvidenceRequest(from_index=stated), timeout=PATIENCE)
    check(sender.verified(next(evidence).receipt) == (stated, leaf), "the sender gets it as evidence")
    evidence.cancel()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("charter", type=pathlib.Path, help="directory of a development charter, as certs-dev makes it")
    parser.add_argument("broker", help="address of the broker, host:port")
    parser.add_argument("office", help="originator, such as VN-BLO-LCA")
    parser.add_argument("recipient", help="office of another country, such as CN-BLO-HKO")
    arguments = parser.parse_args()
    offices = [arguments.office, arguments.recipient]
    sender, recipient = (Office(arguments.charter, arguments.broker, office) for office in offices)
    check_health(sender.channel)
    check_reflection(sender.channel)
    check_directory(sender)
    accepted = check_submission(sender, recipient)
    check_refusals(sender, recipient, accepted)
    check_stream(sender, recipient)
    check_attachment(sender, recipient)
    check_delivery(sender, recipient)
    print("all checks passed")


if __name__ == "__main__":
    try:
        main()
    except NotGood as error:
        raise SystemExit(f"FAILED  {error}") from None
