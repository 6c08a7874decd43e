"""Somebody at a diagram's collaboration socket, who draws, watches and keeps a log of everything."""

import asyncio
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

import orjson
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from deploy.demo.diagram import Cell, Diagram

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_CORRECTION_VERSION = 5
"""Version of the UUIDs that the server gives to corrections; clients' own are random."""


@dataclass
class Log:
    """What one socket sent and saw. Vectors are the diagram's update_vector."""

    sent: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    """(operation_id, operation) in the order of sending."""
    events: list[dict[str, Any]] = field(default_factory=list)
    """diagram_operation_event messages of others, in the order of arrival."""
    refused: dict[str, str] = field(default_factory=dict)
    """Reason by operation_id."""
    states: list[dict[str, Any]] = field(default_factory=list)
    """diagram_state messages; the first one is the join's."""
    corrections: list[dict[str, Any]] = field(default_factory=list)
    """diagram_operation_event messages that repeat cells of an own operation."""
    drawn: list[dict[str, Any]] = field(default_factory=list)
    """Everything that changed the screen, in order: own operations, events, states."""
    errors: list[str] = field(default_factory=list)
    close_code: int | None = None

    def edit(self, operation_id: str, operation: dict[str, Any]) -> None:
        """An own operation, which a client draws at once."""
        self.sent.append((operation_id, operation))
        self.drawn.append({"own": operation})

    def event(self, message: dict[str, Any]) -> None:
        """A diagram_operation_event."""
        is_correction = uuid.UUID(message["operation_id"]).version == _CORRECTION_VERSION
        (self.corrections if is_correction else self.events).append(message)
        self.drawn.append(message)

    def state(self, message: dict[str, Any]) -> None:
        """A diagram_state."""
        self.states.append(message)
        self.drawn.append(message)

    def screen(self) -> list[Cell]:
        """The cells on the screen, in the order of their ids."""
        diagram = Diagram(())
        for message in self.drawn:
            if "own" in message:
                diagram.draw(message["own"])
            elif "cells" in message:
                diagram = Diagram(message["cells"])
            else:
                diagram.show(message["operation"])
        return diagram.cells()


class Editor:
    """A socket and its log. Use as an async context manager: it joins on entry and leaves on exit."""

    def __init__(self, name: str, socket_url: str) -> None:
        self.name = name
        self.log = Log()
        self.participants: list[dict[str, Any]] = []
        self._url = socket_url
        self._arrived = asyncio.Condition()
        self._connection: ClientConnection | None = None
        self._reader: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._connection = await connect(self._url, max_size=_MAX_MESSAGE_BYTES, compression=None, proxy=None)
        self._reader = asyncio.create_task(self._read(self._connection))
        await self.wait_until(lambda: bool(self.log.states))
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._connection is not None
        assert self._reader is not None
        await self._connection.close()
        await self._reader

    @property
    def newest_vector(self) -> int:
        """The highest update_vector seen so far."""
        seen = [message["update_vector"] for message in (*self.log.states, *self.log.events, *self.log.corrections)]
        return max(seen, default=0)

    async def change(self, *changes: dict[str, Any]) -> str:
        """Sends one operation over some cells and returns its id."""
        operation_id = str(uuid.uuid4())
        operation = {"type": "patch", "cells": list(changes)}
        self.log.edit(operation_id, operation)
        await self.send(
            {
                "message_type": "diagram_operation_request",
                "operation_id": operation_id,
                "base_vector": self.newest_vector,
                "operation": operation,
            }
        )
        return operation_id

    async def send(self, message: dict[str, Any]) -> None:
        """Sends any message."""
        assert self._connection is not None
        await self._connection.send(orjson.dumps(message).decode())

    async def wait_until(self, condition: Any, timeout: float = 30.0) -> None:
        """Waits until the condition holds, looking again after every message. Raises TimeoutError."""
        async with asyncio.timeout(timeout), self._arrived:
            await self._arrived.wait_for(condition)

    async def _read(self, connection: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            async for text in connection:
                async with self._arrived:
                    self._note(orjson.loads(text))
                    self._arrived.notify_all()
        async with self._arrived:
            self.log.close_code = connection.close_code
            self._arrived.notify_all()

    def _note(self, message: dict[str, Any]) -> None:
        match message["message_type"]:
            case "diagram_state":
                self.log.state(message)
            case "diagram_operation_event":
                self.log.event(message)
            case "operation_rejected":
                self.log.refused[message["operation_id"]] = message["reason"]
            case "authorization_denied":
                self.log.refused[message["original_operation_id"]] = "authorization_denied"
            case "participants_update":
                self.participants = message["participants"]
            case "error":
                self.log.errors.append(f"{message['error']}: {message['message']}")
