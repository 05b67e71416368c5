-- The revision that a mark was last moved at: our own tokens are held against it.
alter table epochs add column revision bigint not null default 0;

-- Rows beside the state. Ids are unique across tenants: the tenant is found by them. They compare by their bytes.
create table side_rows (
    kind text not null,
    id text collate "C" not null,
    tenant text not null,
    owner text not null,
    expires_us bigint,
    version bigint not null,
    body text not null,
    primary key (kind, id)
);
create index side_rows_by_owner on side_rows (tenant, kind, owner, id);
create index side_rows_by_end on side_rows (expires_us) where expires_us is not null;
