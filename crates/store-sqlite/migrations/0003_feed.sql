-- What led to the latest revisions, each with a mark over its whole history; `upto` counts bytes.
create table steps (
    revision integer primary key,
    mark text not null,
    follows text,
    upto integer not null,
    body text not null
) strict;
create unique index steps_by_size on steps (upto);
alter table installation add column mark text;
