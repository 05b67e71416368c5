create table housekeeping (
    singleton integer primary key check (singleton = 1),
    expired_before_us integer not null
) strict;
insert into housekeeping (singleton, expired_before_us) values (1, 0);

-- One a recorded decision. `under`: whose keys it is sealed under, the innermost first.
create table asks (
    tenant text not null,
    decision blob not null,
    at_us integer not null,
    slice blob not null,
    under text not null,
    bytes blob not null,
    primary key (tenant, decision)
) strict, without rowid;
create index asks_by_age on asks (at_us);
create index asks_by_slice on asks (tenant, slice);

-- What entities a slice is made of, by the digest that records name.
create table slices (
    tenant text not null,
    slice blob not null,
    primary key (tenant, slice)
) strict, without rowid;
create table members (
    tenant text not null,
    slice blob not null,
    node blob not null,
    primary key (tenant, slice, node)
) strict, without rowid;
create index members_by_node on members (tenant, node);

-- Entities by digest.
create table nodes (
    tenant text not null,
    node blob not null,
    under text not null,
    bytes blob not null,
    -- Whether somebody in it was erased since: nobody reads it, and it is put anew when it is seen again.
    stale integer not null default 0,
    primary key (tenant, node)
) strict, without rowid;
