-- One row: the installation. Revision 0 is before the founding.
create table installation (
    singleton bigint primary key check (singleton = 1),
    revision bigint not null,
    recovery_needed bigint,
    recovery_keys text,
    claim_digest text,
    claim_expires_us bigint
);
insert into installation (singleton, revision) values (1, 0);

create table documents (
    tenant text not null,
    kind text not null,
    name text not null,
    body text not null,
    changed bigint not null,
    primary key (tenant, kind, name)
);

-- Handles and digests are unique across tenants: the tenant is found by them.
create table api_keys (
    id text primary key,
    tenant text not null,
    handle text not null unique,
    digest text not null unique,
    about text not null,
    created_us bigint not null,
    expires_us bigint not null,
    revoked_us bigint,
    last_used_us bigint
);

create table epochs (
    tenant text not null,
    kind text not null,
    name text not null,
    not_before_us bigint not null,
    primary key (tenant, kind, name)
);

create table sealed (
    tenant text not null,
    name text not null,
    sealed bytea not null,
    primary key (tenant, name)
);

-- Every bundle that was ever in force or tried; the one that is in force has the highest version of its tenant.
create table bundles (
    tenant text not null,
    version bigint not null,
    base bigint not null,
    digest text not null,
    files text not null,
    candidate_digest text,
    candidate_files text,
    signed text not null,
    primary key (tenant, version)
);
create index bundles_by_digest on bundles (tenant, digest);
create index bundles_by_candidate on bundles (tenant, candidate_digest);

create table checkpoints (
    log text primary key,
    size bigint not null,
    root text not null
);
