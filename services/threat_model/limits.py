"""How much may be stored, so that all of it can be delivered: well below what one gRPC message carries.

docs/operating.md lists them. A write that exceeds one is refused before its COMMIT: 413 `payload_too_large` by
REST, `operation_rejected` with `validation_failed` in a collaboration session. Totals are read beside the row that is
written, without a lock on the others: writes of the same moment may exceed them by what they bring, for which
there is room. A write that makes a total smaller always succeeds.
"""

_MIB = 1024 * 1024

MAX_CELLS = 10_000
"""Cells of a diagram."""

MAX_CELL_BYTES = 256 * 1024
"""JSON text of one cell: every operation on it is logged and sent to everybody."""

MAX_OPERATION_BYTES = 2 * _MIB
"""JSON text of what an operation does: it has the whole cells, which the request may only name."""

MAX_READ_BYTES = 8 * _MIB
"""Operations that are read from the log at once, the last of which may go beyond it."""

MAX_DIAGRAM_BYTES = 4 * _MIB + _MIB // 2
"""JSON texts of a diagram's cells. With all else that a GET answers of it they fit into the body of a PUT."""

MAX_MODEL_CELLS_BYTES = 16 * _MIB
"""JSON texts of the cells of all diagrams of a threat model: its document embeds them."""

MAX_MODEL_BYTES = 12 * _MIB
"""Everything else that the document of a threat model embeds: its texts may double as JSON."""

MAX_ACCESS_ENTRIES = 1000
"""Users and groups with a role on a threat model, the automatic ones among them."""

MAX_ANSWER_BYTES = 48 * _MIB
"""One answer: a document, a page of a list, the outcomes of a group of operations."""

FULL_OF_CELLS = (
    f"The cells of a diagram may have at most {MAX_DIAGRAM_BYTES} bytes,"
    f" those of all diagrams of a threat model {MAX_MODEL_CELLS_BYTES}."
)
"""Why cells are refused that would be too many bytes."""
