"""Proto files that only a test has, compiled when it runs."""

import itertools
import sysconfig
import tempfile
from pathlib import Path

from google.protobuf import descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from grpc_tools import protoc

from services.shared.operations import declared_files

_INCLUDES = (
    str(Path(__file__).parents[1] / "proto"),
    sysconfig.get_path("purelib"),
    str(Path(protoc.__file__).parent / "_proto"),
)
_NUMBERS = itertools.count()
_HEADER = """
syntax = "proto3";
package tmi.{service}.test{number};
import "google/api/annotations.proto";
import "google/api/httpbody.proto";
import "tmi/options/v1/options.proto";
"""


def compiled(definitions: str, *, service: str = "health", stubs: Path | None = None) -> FileDescriptor:
    """The file with these services and messages, in a package of its own that belongs to the service.

    stubs: a folder that gets the compiled module as well, as if the project had the file.
    """
    number = next(_NUMBERS)
    name = f"tmi/{service}/test{number}.proto"
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder) / name, Path(folder) / "descriptors"
        source.parent.mkdir(parents=True)
        source.write_text(_HEADER.format(service=service, number=number) + definitions)
        includes = [f"-I{include}" for include in (folder, *_INCLUDES)]
        outputs = [f"--descriptor_set_out={result}", *([f"--python_out={stubs}"] if stubs else [])]
        failed = protoc.main(["protoc", *includes, *outputs, name])
        assert not failed, "protoc says why on stderr"
        files = FileDescriptorSet.FromString(result.read_bytes()).file
    declared_files()  # which it may import
    descriptor_pool.Default().Add(files[0])
    return descriptor_pool.Default().FindFileByName(name)


def with_rpc(http: str, operation: str, *, request: str = "", returns: str = "google.api.HttpBody") -> FileDescriptor:
    """A file with one RPC `Example.Do`. http and operation: the values of its options; request: its fields."""
    return compiled(
        f"""
        service Example {{
          rpc Do(Request) returns ({returns}) {{
            option (google.api.http) = {{{http}}};
            option (tmi.options.v1.operation) = {{{operation}}};
          }}
        }}
        message Request {{ {request} }}
        """
    )
