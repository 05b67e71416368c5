-- One row: whether an erasure was committed whose remains (files, free space, journal) are still to be swept.
create table housekeeping (
    singleton integer primary key check (singleton = 1),
    unswept integer not null
) strict;
insert into housekeeping (singleton, unswept) values (1, 0);

-- A tenant's key makes the addresses of its rows; it lies sealed under the key-encryption key.
create table tenants (
    id integer primary key,
    name text not null unique,
    sealed blob not null
) strict;

-- `subject` and `decision` are addresses everywhere: HMAC-SHA256 under the tenant's key.
create table keys (
    tenant integer not null references tenants (id),
    subject blob not null,
    id text not null unique,
    sealed blob not null,
    primary key (tenant, subject)
) strict, without rowid;

create table items (
    tenant integer not null,
    subject blob not null,
    decision blob not null,
    field text not null,
    kind text not null,
    made_us integer not null,
    sealed blob not null,
    primary key (tenant, subject, decision, field),
    foreign key (tenant, subject) references keys (tenant, subject)
) strict, without rowid;
create index items_by_age on items (tenant, kind, made_us);

-- The sealed payload itself is the file of that name.
create table payloads (
    sha256 text primary key,
    tenant integer not null,
    subject blob not null,
    decision blob not null,
    field text not null,
    kind text not null,
    made_us integer not null,
    bytes integer not null,
    unique (tenant, subject, decision, field),
    foreign key (tenant, subject) references keys (tenant, subject)
) strict, without rowid;
create index payloads_by_age on payloads (tenant, kind, made_us);

create table holds (
    tenant integer not null references tenants (id),
    subject blob not null,
    name text not null,
    basis text not null,
    placed_us integer not null,
    primary key (tenant, subject, name)
) strict, without rowid;

create table erasures (
    number integer primary key,
    id text not null unique,
    tenant integer not null references tenants (id),
    subject blob not null,
    time_us integer not null,
    items integer not null,
    payloads integer not null,
    first_us integer,
    last_us integer
) strict;
create index erasures_by_subject on erasures (tenant, subject);
