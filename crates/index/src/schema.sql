-- Whose index it is.
create table about (tenant text not null) strict;

-- One row a log: how far it is indexed. The id is made from the origin, so that it is the same after every rebuild.
create table logs (
    id integer primary key,
    origin text not null unique,
    size integer not null default 0,
    unreadable integer not null default 0
) strict;

-- One row an entry: its place, and the facts that have one value at most.
create table entries (
    id integer primary key,
    log integer not null,
    idx integer not null,
    time_us integer not null,
    kind text,
    verdict text,
    subject text,
    subject_kind text,
    api_key text,
    issuer text,
    credential text,
    assurance integer,
    action text,
    resource text,
    resource_type text,
    target text,
    dialect text,
    policy text,
    decision text,
    node text,
    seq integer,
    bytes integer,
    tokens integer,
    took_us integer,
    redacted integer,
    repeated integer,
    status integer,
    ending text,
    event text
) strict;

-- Facts that can have several values.
create table lists (
    field integer not null,
    value text not null,
    entry integer not null,
    primary key (field, value, entry)
) strict, without rowid;

-- The words, without the text. The tokenizer parts at spaces only: the words were made by the query's own rule.
create virtual table words using fts5 (text, content = '', columnsize = 0, tokenize = 'ascii');

-- Every index ends with the order of pages, so that a page is read off without sorting.
create index by_time on entries (time_us, log, idx);
create index by_kind on entries (kind, time_us, log, idx);
create index by_verdict on entries (verdict, time_us, log, idx) where verdict is not null;
create index by_subject on entries (subject, time_us, log, idx) where subject is not null;
create index by_key on entries (api_key, time_us, log, idx) where api_key is not null;
create index by_action on entries (action, time_us, log, idx) where action is not null;
create index by_resource on entries (resource, time_us, log, idx) where resource is not null;
create index by_decision on entries (decision, time_us, log, idx) where decision is not null;
create index by_ending on entries (ending, time_us, log, idx) where ending is not null;
create index by_event on entries (event, time_us, log, idx) where event is not null;

-- What the planner is told about how telling each column is, instead of statistics: plans stay the same on every
-- machine and after every rebuild. Only the proportions matter: rows, and how many share a value.
analyze;
insert into sqlite_stat1 (tbl, idx, stat) values
    ('entries', 'by_time', '1000000 2 1 1'),
    ('entries', 'by_kind', '1000000 300000 2 1 1'),
    ('entries', 'by_verdict', '500000 200000 2 1 1'),
    ('entries', 'by_subject', '500000 1000 2 1 1'),
    ('entries', 'by_key', '500000 1000 2 1 1'),
    ('entries', 'by_action', '500000 50000 2 1 1'),
    ('entries', 'by_resource', '500000 20000 2 1 1'),
    ('entries', 'by_decision', '1000000 2 1 1 1'),
    ('entries', 'by_ending', '500000 100000 2 1 1'),
    ('entries', 'by_event', '1000 100 2 1 1'),
    ('lists', 'lists', '2000000 700000 20000 1');
analyze sqlite_schema;
