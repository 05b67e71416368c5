//! The table of settings.

/// One setting of the bootstrap configuration.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Section and key, as in the file.
    pub path: &'static str,
    /// The default; empty for none.
    pub default: &'static str,
    /// What it means, with its unit.
    pub meaning: &'static str,
    /// Whether its value is never shown.
    pub secret: bool,
}

impl Setting {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("BARTIZAN_{}", self.path.replace('.', "__").to_uppercase())
    }
}

const fn setting(path: &'static str, default: &'static str, meaning: &'static str) -> Setting {
    Setting { path, default, meaning, secret: false }
}

/// Every setting, by section.
pub const SETTINGS: &[Setting] = &[
    setting(
        "authority.default_scopes",
        "model:use",
        "What a client program is given that asks for no scope, separated by commas; also the most that clients may have which \
         are known by a document of their own or registered themselves.",
    ),
    setting(
        "authority.issuer",
        "",
        "The address of the control listener as others know it, such as `https://id.example.com`: who issues our tokens (`iss`), \
         and where the control API is asked at with them. Without, this installation issues and takes no tokens of its own.",
    ),
    setting(
        "authority.metadata_clients",
        "false",
        "Whether client programs may be known by a document that they publish (client ID metadata documents): `true` or `false`.",
    ),
    setting(
        "authority.metadata_hosts",
        "",
        "Hosts whose documents are taken, separated by commas; `.example.com` for all below it. Any public host without.",
    ),
    setting(
        "authority.metadata_private_hosts",
        "",
        "Hosts, with their ports where they are not 443, whose documents may lie at private addresses, separated by commas.",
    ),
    setting(
        "authority.private_receivers",
        "",
        "Hosts, with their ports where they are not 443, that may receive security events at private addresses, also without \
         TLS; separated by commas.",
    ),
    setting(
        "authority.registration",
        "false",
        "Whether somebody who may do `client:register` can register client programs over the protocol (RFC 7591): `true` or `false`.",
    ),
    setting(
        "authority.resources",
        "",
        "The addresses that tokens are issued for (RFC 8707), separated by commas, the one that is meant where none is named first. \
         Without, those of all doors, and the data plane is meant.",
    ),
    setting(
        "cache.answer_bytes_max",
        "1048576",
        "Bytes of the longest answer of a model that is kept to be given again.",
    ),
    setting(
        "cache.answers_max",
        "10000",
        "Answers of models that are kept at once to be given again, of those whose declaration says so.",
    ),
    setting("cache.bytes_max", "67108864", "Bytes of memory that these answers take together."),
    setting(
        "children.idle_s",
        "300",
        "Seconds after which a tool server that runs as a child is ended when nobody asks it.",
    ),
    setting("children.max", "64", "Tool servers that run as children at once."),
    setting("children.per_tenant_max", "16", "Of these, the ones of one tenant."),
    setting(
        "children.user",
        "65534",
        "The number of the user and group that children run as where this process runs as root; never 0.",
    ),
    setting(
        "code.runs_max",
        "4",
        "Runs of code at once; more are refused. Each takes a thread and as much memory as its runtime's bounds let it.",
    ),
    setting(
        "data.folder",
        "bartizan-data",
        "The folder of state, keys and ledger. One running process a folder.",
    ),
    setting(
        "deliver.folder",
        "",
        "Where deliveries to files write, in `TENANT/NAME`; `delivered` in the data folder without. Each node needs its own.",
    ),
    setting(
        "limits.answer_bytes_max",
        "33554432",
        "Bytes of an upstream's answer that must be held whole to be redacted.",
    ),
    setting("limits.body_bytes_max", "8388608", "Bytes of a request's body."),
    setting(
        "limits.body_timeout_ms",
        "30000",
        "Milliseconds within which a request's body must have arrived.",
    ),
    setting("limits.connections_max", "10000", "Connections to one listener at once."),
    setting("limits.head_bytes_max", "65536", "Bytes of a request's head."),
    setting("limits.json_depth_max", "64", "How deep JSON may nest."),
    setting("limits.json_nodes_max", "1000000", "How many values one JSON document may hold."),
    setting(
        "limits.write_timeout_ms",
        "60000",
        "Milliseconds for which a caller may take nothing of its answer before it is cut off.",
    ),
    setting(
        "listeners.client_ca",
        "",
        "PEM file with the authorities whose certificates clients of the data plane and the control API may show (mutual TLS): \
         tokens can be bound to them. Needs `listeners.tls_certificate`. No certificates are asked for without.",
    ),
    setting("listeners.control", "127.0.0.1:8081", "Where the control API listens."),
    setting("listeners.data", "127.0.0.1:8080", "Where the data plane listens."),
    setting(
        "listeners.mesh",
        "",
        "Where proxies ask whether a request may go on (Envoy `ext_authz` and `ext_proc`, nginx, Traefik, Caddy), such as \
         `127.0.0.1:8083`. Nowhere without.",
    ),
    setting(
        "listeners.mesh_certificates",
        "",
        "Addresses and networks of those proxies that are believed about the certificates of their clients, separated by commas. A \
         proxy that leaves a client's own `x-forwarded-client-cert` in place must not be among them. Nobody is believed without.",
    ),
    setting(
        "listeners.mesh_peers",
        "127.0.0.0/8, ::1",
        "Addresses and networks of the proxies that may ask, separated by commas.",
    ),
    setting(
        "listeners.mesh_tls",
        "server",
        "How proxies ask: `server` for the certificate of the other listeners (plain where they have none), `mutual` for mutual TLS \
         by the settings of `mutual`, whose peers the proxies then must be, `plain` for none.",
    ),
    setting(
        "listeners.operations",
        "127.0.0.1:9090",
        "Where health and metrics are served, without authentication: keep it on loopback or a private network.",
    ),
    setting(
        "listeners.public_url",
        "",
        "The address of the data plane as others know it, such as `https://gateway.example.com`, for what tells them; the `Host` they ask at without.",
    ),
    setting(
        "listeners.tls_certificate",
        "",
        "PEM file with the certificate chain of the data plane and the control API. Plain HTTP without.",
    ),
    setting("listeners.tls_key", "", "PEM file with the private key to it."),
    setting(
        "listeners.trusted_proxies",
        "",
        "Addresses and networks of the proxies in front, separated by commas, such as `10.0.0.0/8`: who calls is then read from \
         the right of their `X-Forwarded-For`. Nobody is believed without.",
    ),
    setting(
        "listeners.workloads",
        "false",
        "Whether clients of the data plane and the control API may show the certificate of a workload (X.509-SVID) as their \
         credential: one of the house, or of a trust domain that a `federation` document names. Needs `listeners.tls_certificate`.",
    ),
    setting(
        "log.filter",
        "info",
        "What is logged to standard error: a level, or `target=level` separated by commas.",
    ),
    setting("log.format", "text", "How lines are logged: `text` or `json`."),
    setting(
        "mutual.folder",
        "",
        "The folder with `cert.pem`, `key.pem` and `trust.pem` that this process shows to other processes of the house, as \
         `bartizan certificate issue` keeps it: a witness then lets in nobody without a certificate, and a node shows its own to \
         witnesses and demands theirs.",
    ),
    setting(
        "mutual.peers",
        "",
        "Which workloads may be at the other end, separated by commas: SPIFFE identities, in which `*` stands for characters \
         within one segment, such as `spiffe://house.example/workload/witness-*`.",
    ),
    setting("mutual.trust_domain", "", "The trust domain of the house: the host of its issuer."),
    setting(
        "policy.signers",
        "",
        "Public keys (`ed25519:…`, from `bartizan policy key`) of those who may write policy, separated by commas: a bundle then \
         needs the signature of one of them. Without, the right to apply policy is enough.",
    ),
    setting(
        "query.sqlite_folder",
        "",
        "The folder of the SQLite files that database routes may name. No route can lead to an SQLite file without.",
    ),
    setting(
        "record.archive_folder",
        "",
        "Where archives of past periods lie as this node sees them, `TENANT/PERIOD` below it, on another disk: `log remove` \
         verifies them there.",
    ),
    setting(
        "record.copy_folder",
        "",
        "A folder on another disk or host where a second copy of the write-ahead log is written: nothing counts before it \
         is on both. Each node needs its own.",
    ),
    setting("record.queue_max", "8192", "Records that may wait for the disk; more are refused."),
    setting(
        "record.retention_days",
        "",
        "For how many days after its end a quarter of the ledger stays on the node; then `log remove` may remove it, once it is \
         archived. Without, it stays for ever.",
    ),
    setting("record.seal_interval_ms", "1000", "Milliseconds between two checkpoints of the ledger."),
    setting(
        "record.segment_bytes",
        "67108864",
        "Bytes of a segment of the write-ahead log; up to four more are kept to be used again.",
    ),
    setting(
        "record.witness_policy",
        "",
        "A file (C2SP tlog-policy) that names the witnesses of the operator's log with their keys and URLs, and how many of \
         them are enough. Without, nobody outside vouches for the ledger.",
    ),
    setting(
        "replay.check_interval_s",
        "86400",
        "Seconds between two checks that recorded decisions come out again.",
    ),
    setting("replay.check_sample", "200", "How many recent decisions such a check takes, at most 1000."),
    setting(
        "replay.enabled",
        "true",
        "Whether what replay needs is kept in `slices/`: `true` or `false`. Needs the vault, where its keys lie.",
    ),
    setting("replay.keep_days", "90", "For how many days that is kept."),
    setting("replay.megabytes_max", "8192", "In how many megabytes; beyond that the oldest goes."),
    setting(
        "server.role",
        "all",
        "Which parts this process runs: `all`, or `witness` for other houses' logs.",
    ),
    Setting {
        secret: true,
        ..setting(
            "state.postgres_url",
            "",
            "The state database on PostgreSQL, as `postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full`, or \
             `file:PATH` of a file that holds it. Without, state is kept in an embedded database in the data folder.",
        )
    },
    setting(
        "telemetry.otlp_endpoint",
        "",
        "Where traces are sent by OTLP over HTTP, such as `http://127.0.0.1:4318`; nowhere without. Headers it needs \
         come from the variable OTEL_EXPORTER_OTLP_HEADERS.",
    ),
    setting("telemetry.traces_permille", "1000", "How many of a thousand calls are traced."),
    setting("upstream.ca_file", "", "PEM file with further roots that upstream TLS is checked against."),
    setting(
        "vault.enabled",
        "true",
        "Whether this node has a vault for content that policy wants kept: `true` or `false`. Without, such calls are denied. \
         Each node has a vault of its own, and an erasure reaches the vault of the node that is asked.",
    ),
    setting(
        "vault.retention_days",
        "",
        "For how many days each kind of kept data stays, such as `prompt=30, output=30, network=90`; the kinds are `network`, \
         `user_agent`, `purpose`, `prompt`, `output` and `free_text`. What is not named stays until its subject is erased.",
    ),
    setting(
        "witness.logs",
        "",
        "For the role `witness`: a file with one `log VKEY` line for each log whose checkpoints it cosigns.",
    ),
];
