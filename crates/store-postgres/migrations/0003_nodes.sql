-- The nodes that decide on the state, by their own word; the end of their leases by the database's clock.
create table nodes (
    node text primary key,
    revision bigint not null,
    policy bigint not null,
    lease_until timestamptz not null
);
