"""Rows and filters on standard input, the ids that match on standard output; in a store that runs in this process.

`chroma` is Chroma itself. `qdrant` is the mode `:memory:` of Qdrant's client, which evaluates filters in Python and is not the server.
Input: `[{"rows": [payload with "id"], "queries": [filter]}]`; output: a list of ids for every query of every batch.
"""

import json
import sys


def qdrant(batch):
    from qdrant_client import QdrantClient, models

    client = QdrantClient(":memory:")
    client.create_collection("rows", vectors_config=models.VectorParams(size=2, distance=models.Distance.DOT))
    points = [models.PointStruct(id=n, vector=[1.0, 0.0], payload=row) for n, row in enumerate(batch["rows"])]
    client.upsert("rows", points)
    for query in batch["queries"]:
        # Unknown members are refused, so nothing is ignored in silence.
        condition = models.Filter.model_validate(query)
        found = client.query_points("rows", query=[1.0, 0.0], query_filter=condition, limit=len(points), with_payload=True)
        yield [point.payload["id"] for point in found.points]


def chroma(batch):
    import chromadb

    # All clients share one database in memory. No collection is deleted: up to 1.5.9 the next one inherits its lists
    # (chroma-core/chroma#7594).
    client = chromadb.EphemeralClient(chromadb.Settings(anonymized_telemetry=False))
    collection = client.create_collection(f"rows-{client.count_collections()}")
    # It stores neither nulls nor empty lists.
    kept = [{key: value for key, value in row.items() if value not in (None, [])} for row in batch["rows"]]
    collection.add(ids=[row["id"] for row in kept], embeddings=[[1.0, 0.0]] * len(kept), metadatas=kept)
    for query in batch["queries"]:
        found = collection.query(query_embeddings=[[1.0, 0.0]], n_results=len(kept), where=query, include=[])
        yield found["ids"][0]


def main():
    store = {"chroma": chroma, "qdrant": qdrant}[sys.argv[1]]
    json.dump([list(store(batch)) for batch in json.load(sys.stdin)], sys.stdout)


main()
