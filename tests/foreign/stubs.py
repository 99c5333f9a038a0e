"""The Python stubs of our .proto files, generated when this module is imported, as any client would generate them."""

import pathlib
import sys
import tempfile

import grpc_tools
from grpc_tools import protoc

PROTO = pathlib.Path(__file__).resolve().parents[2] / "proto" / "proto"
WELL_KNOWN = pathlib.Path(grpc_tools.__file__).parent / "_proto"

with tempfile.TemporaryDirectory() as directory:
    files = sorted(str(path) for path in (PROTO / "liaison/exchange/v1").glob("*.proto"))
    arguments = [f"-I{PROTO}", f"-I{WELL_KNOWN}", f"--python_out={directory}", f"--grpc_python_out={directory}"]
    if not files or protoc.main(["protoc", *arguments, *files]) != 0:
        sys.exit("FAILED  the .proto files do not generate Python stubs")
    sys.path.insert(0, directory)
    from liaison.exchange.v1 import envelope_pb2, exchange_pb2, leaf_pb2, log_pb2
    from liaison.exchange.v1 import exchange_pb2_grpc, log_pb2_grpc

    sys.path.remove(directory)

__all__ = ["envelope_pb2", "exchange_pb2", "exchange_pb2_grpc", "leaf_pb2", "log_pb2", "log_pb2_grpc"]
