-- The table of a corpus. `vector(2)` has as many dimensions as the route says. The role that the house logs in as owns nothing.
CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE chunks (
  key text PRIMARY KEY,
  tenant text NOT NULL, collection text NOT NULL, id text NOT NULL, chunk bigint NOT NULL, body text NOT NULL,
  status text NOT NULL, sensitivity text NOT NULL, confidentiality text NOT NULL, integrity text NOT NULL,
  categories text[] NOT NULL, ancestors text[] NOT NULL, readers text[], reader_groups text[],
  environment text, project text, owner text, digest text,
  synced_ms bigint NOT NULL, content_seal text, access_seal text,
  m_year bigint, m_lang text,
  embedding vector(2) NOT NULL
);
CREATE INDEX ON chunks (tenant, collection, id);
CREATE INDEX ON chunks USING hnsw (embedding vector_cosine_ops);
GRANT SELECT, INSERT, UPDATE, DELETE ON chunks TO retrieval;
