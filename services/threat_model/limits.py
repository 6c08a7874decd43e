"""How much may be stored, so that all of it can be delivered: well below what one gRPC message carries.

docs/operating.md lists them. A write that would exceed one is refused before its COMMIT: 413
`payload_too_large` by REST, `operation_rejected` with `validation_failed` in a collaboration session.
"""

MAX_CELLS = 10_000
"""Cells of a diagram."""

MAX_CELL_BYTES = 256 * 1024
"""JSON text of one cell: every operation on it is logged and sent to everybody."""
