"""What the system holds while it is measured."""

from dataclasses import dataclass

import psycopg
from psycopg import sql

from deploy.demo.client import Person
from deploy.demo.shop import read_example

VISIBLE_MODELS = 20
_ALIAS_OFFSET = 1_000_000
_NODE_SHAPES = ("actor", "process", "store")
_NOWHERE = {"cell_id": None}
_COPIED_TABLES = (("threat_models", "id"), ("threat_model_access", "threat_model_id"))


@dataclass(frozen=True)
class Seeded:
    """Paths of what the caller reads and writes, and the stranger's model, to be multiplied."""

    model_path: str
    threats_path: str
    threat_paths: list[str]
    foreign_model_id: str


async def seed(caller: Person, stranger: Person, participants: list[Person], threats: int) -> Seeded:
    """20 models for the caller and one for the stranger.

    One of the caller's is small and realistic, for reading: shared with the participants, three
    threats, one diagram. Another one has `threats` threats, for writing.
    """
    read_path = await _small_model(caller, participants)
    written = await caller.request("POST", "/threat_models", {"name": "Written to"})
    threats_path = f"/threat_models/{written['id']}/threats"
    made = [await caller.request("POST", threats_path, read_example()["threats"][3] | _NOWHERE) for _ in range(threats)]
    for number in range(VISIBLE_MODELS - 2):
        await caller.request("POST", "/threat_models", {"name": f"Own model {number}"})
    foreign = await stranger.request("POST", "/threat_models", read_example()["threat_model"])
    return Seeded(read_path, threats_path, [f"{threats_path}/{threat['id']}" for threat in made], foreign["id"])


async def _small_model(caller: Person, participants: list[Person]) -> str:
    example = read_example()
    entries = [_writer(person) for person in participants]
    model = await caller.request("POST", "/threat_models", {**example["threat_model"], "authorization": entries})
    path = f"/threat_models/{model['id']}"
    diagram = await caller.request("POST", f"{path}/diagrams", {"name": "Checkout", "type": "DFD-1.0.0"})
    nodes = [cell for cell in example["diagram"]["cells"] if cell["shape"] in _NODE_SHAPES]
    cells = [{**cell, "parent": None} for cell in nodes[:8]]
    await caller.request("PUT", f"{path}/diagrams/{diagram['id']}", {**example["diagram"], "cells": cells})
    for threat in example["threats"][:3]:
        await caller.request("POST", f"{path}/threats", threat | _NOWHERE)
    return path


async def shared_diagram(caller: Person, participants: list[Person]) -> tuple[str, str, list[str]]:
    """A diagram that all participants may edit: ids of the model, the diagram and its nodes."""
    example = read_example()
    entries = [_writer(person) for person in participants]
    model = await caller.request("POST", "/threat_models", {"name": "Together", "authorization": entries})
    path = f"/threat_models/{model['id']}/diagrams"
    diagram = await caller.request("POST", path, {"name": "Checkout", "type": "DFD-1.0.0"})
    await caller.request("PUT", f"{path}/{diagram['id']}", example["diagram"])
    nodes = [cell["id"] for cell in example["diagram"]["cells"] if cell["shape"] in _NODE_SHAPES]
    return model["id"], diagram["id"], nodes


def _writer(person: Person) -> dict[str, str]:
    return {"principal_type": "user", "provider": "tmi", "provider_id": person.name, "role": "writer"}


def multiply_foreign_model(database_url: str, foreign_model_id: str, total: int) -> None:
    """Makes as many copies of the stranger's model, access list included, as to have `total` of them."""
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("SET search_path TO threat_model")
        connection.execute("CREATE TABLE IF NOT EXISTS public.bench_copies (n int PRIMARY KEY, id uuid NOT NULL)")
        row = connection.execute("SELECT count(*) FROM public.bench_copies").fetchone()
        have = row[0] if row else 0
        connection.execute(
            "INSERT INTO public.bench_copies SELECT n, gen_random_uuid() FROM generate_series(%s::int, %s::int) n",
            [have + 1, total - 1],
        )
        for table, key in _COPIED_TABLES:
            connection.execute(_copy_statement(connection, table, key), {"model": foreign_model_id, "have": have})
        connection.execute("VACUUM ANALYZE")


def _copy_statement(connection: psycopg.Connection[tuple[object, ...]], table: str, key: str) -> sql.Composed:
    """INSERT … SELECT of one row for each new copy, with its own id and alias."""
    columns = connection.execute(
        "SELECT column_name, udt_name FROM information_schema.columns"
        " WHERE table_schema = 'threat_model' AND table_name = %s ORDER BY ordinal_position",
        [table],
    ).fetchall()
    values: list[sql.Composable] = []
    for name, kind in columns:
        if name == key:
            values.append(sql.SQL("copies.id" if kind == "uuid" else "copies.id::text"))
        elif name == "alias":
            values.append(sql.SQL("{}::int + copies.n").format(_ALIAS_OFFSET))
        else:
            values.append(sql.SQL("source.{}").format(sql.Identifier(str(name))))
    return sql.SQL(
        "INSERT INTO {table} ({columns}) SELECT {values} FROM {table} source, public.bench_copies copies"
        " WHERE source.{key}::text = %(model)s AND copies.n > %(have)s"
    ).format(
        table=sql.Identifier(table),
        columns=sql.SQL(", ").join(sql.Identifier(str(name)) for name, _ in columns),
        values=sql.SQL(", ").join(values),
        key=sql.Identifier(key),
    )
