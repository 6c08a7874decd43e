"""From a path to the operations it offers, compiled from the descriptors at start."""

from collections.abc import Iterable
from typing import Generic, TypeVar
from urllib.parse import unquote_to_bytes

from gateway.parameters import RequestReader
from services.shared.declarations import InvalidDeclaration
from services.shared.errors import ApiError, invalid_id, not_found
from services.shared.operations import HttpOperation

Value = TypeVar("Value")

PUBLIC_PREFIXES = ("/.well-known/", "/oauth2/", "/saml/", "/static/", "/webhook-deliveries/")
"""What is called by those who have no token, often to find out what there is: an unknown name below is 404, not
401, which clients take for the end of their session (RFC 8615 for the first)."""


class _Node(Generic[Value]):
    __slots__ = ("literals", "parameter", "value")

    def __init__(self) -> None:
        self.literals: dict[str, _Node[Value]] = {}
        self.parameter: _Node[Value] | None = None
        self.value: Value | None = None


class PathTrie(Generic[Value]):
    """Values by path template. A literal segment wins over a parameter, at the leftmost difference."""

    def __init__(self) -> None:
        self._root: _Node[Value] = _Node()

    def setdefault(self, template: str, value: Value) -> Value:
        """The value at the template, which becomes `value` when there was none.

        A template is `/literal/{parameter}/…`; parameters match exactly one segment.
        """
        node = self._root
        for segment in template.split("/")[1:]:
            if segment.startswith("{"):
                node.parameter = node.parameter or _Node()
                node = node.parameter
            else:
                node = node.literals.setdefault(segment, _Node())
        if node.value is None:
            node.value = value
        return node.value

    def find(self, segments: list[str]) -> tuple[Value, tuple[str, ...]] | None:
        """The value whose template fits the segments, and what stood in the places of its parameters."""
        return self._find(self._root, segments, 0, ())

    def _find(
        self, node: _Node[Value], segments: list[str], position: int, values: tuple[str, ...]
    ) -> tuple[Value, tuple[str, ...]] | None:
        if position == len(segments):
            return None if node.value is None else (node.value, values)
        segment = segments[position]
        literal = node.literals.get(segment)
        if literal is not None and (found := self._find(literal, segments, position + 1, values)):
            return found
        if node.parameter is not None:
            return self._find(node.parameter, segments, position + 1, (*values, segment))
        return None


class Operation:
    """An HTTP operation with everything about it that a request needs, computed once."""

    __slots__ = (
        "consumes",
        "declaration",
        "embeds",
        "produces",
        "public",
        "rate_tier",
        "raw_body",
        "reader",
        "rpc_path",
        "streams",
        "success_status",
    )

    def __init__(self, declaration: HttpOperation) -> None:
        self.declaration = declaration
        self.public = not declaration.requirement.authenticated
        self.rate_tier = declaration.rate_tier
        self.consumes = declaration.consumes
        self.embeds = declaration.declaration.embeds
        self.raw_body = declaration.declaration.raw_body
        self.produces = ("application/json", *declaration.declaration.produces)
        self.success_status = declaration.success_status
        self.rpc_path = declaration.rpc_path
        self.streams = declaration.streams
        self.reader = RequestReader(declaration)


class Route:
    """A path template and its operations by verb. GET answers HEAD as well, unless declared otherwise."""

    __slots__ = ("allow", "operations", "public", "template")

    def __init__(self, template: str) -> None:
        self.template = template
        self.operations: dict[str, Operation] = {}
        self.allow = ""
        self.public = False

    def add(self, operation: Operation) -> None:
        """Adds an operation under its verb. Raises InvalidDeclaration when the path has it already."""
        declaration = operation.declaration
        verb = declaration.verb
        if declaration.path != self.template:
            problem = f"{declaration.path} differs from {self.template} in the names of parameters only"
            raise InvalidDeclaration(declaration.method, problem)
        if verb in self.operations:
            raise InvalidDeclaration(declaration.method, f"{verb} {self.template} is declared twice")
        self.operations[verb] = operation
        if verb == "GET" and not declaration.declaration.no_head:
            self.operations["HEAD"] = operation
        self.allow = ", ".join((*sorted(self.operations), "OPTIONS"))
        self.public = all(operation.public for operation in self.operations.values())

    def method_not_allowed(self, method: str) -> ApiError:
        """405 with the verbs of this path. RFC 9110 section 15.5.6."""
        return ApiError(
            405, "method_not_allowed", f"{method} is not available on this path.", headers={"Allow": self.allow}
        )


class Routes:
    """Every route. `find` takes the raw path, so that an encoded slash never separates segments.

    Raises InvalidDeclaration for operations that exclude each other.
    """

    def __init__(self, operations: Iterable[HttpOperation]) -> None:
        self._trie: PathTrie[Route] = PathTrie()
        self.declared = tuple(operations)
        for declaration in self.declared:
            self._trie.setdefault(declaration.path, Route(declaration.path)).add(Operation(declaration))

    def find(self, raw_path: bytes) -> tuple[Route, tuple[str, ...]] | None:
        """The route of a percent-encoded path and its parameters, decoded. Raises ApiError 400."""
        try:
            if b"%" in raw_path:
                segments = [unquote_to_bytes(part).decode() for part in raw_path.split(b"/")[1:]]
            else:
                segments = raw_path.decode().split("/")[1:]
        except UnicodeDecodeError as error:
            raise invalid_id("The path is not UTF-8.") from error
        return self._trie.find(segments)


def unknown_path(method: str, path: str) -> ApiError:
    """404 for a path that no operation has."""
    return not_found(f"There is no {method} {path}.")
