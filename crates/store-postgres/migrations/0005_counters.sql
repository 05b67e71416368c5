-- What limits count. Many changes a second to few rows, so there is room to change them in place.
create table counters (
    key text primary key,
    body text not null,
    expires_us bigint not null
) with (fillfactor = 50);
