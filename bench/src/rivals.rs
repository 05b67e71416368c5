//! What Bartizan is measured beside. Each is started as its own documentation says, pinned to the gateway's core.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::Error;
use crate::credentials::{AUDIENCE, ISSUER, SUBJECT};
use crate::process::{GATEWAY_CORE, LOAD_CORE, Program, free_address};

/// A gateway that runs and takes requests.
pub struct Gateway {
    /// The program whose use is counted; none for the model itself.
    pub program: Option<Program>,
    /// Programs that it cannot do without; their use counts as well.
    pub beside: Vec<Program>,
    pub address: SocketAddr,
    /// Sent with every request.
    pub headers: Vec<(String, String)>,
    /// The name of the model in requests.
    pub model: String,
}

/// Everything that starting a gateway takes.
pub struct Setting<'a> {
    /// A folder for configuration, state and what the programs print.
    pub folder: PathBuf,
    /// The binaries of this package.
    pub binaries: &'a Path,
    /// The virtual environment with the rivals' packages.
    pub python: &'a Path,
    /// The model behind the gateway.
    pub upstream: SocketAddr,
    pub jwks: &'a Value,
    pub token: &'a str,
}

impl Gateway {
    /// Seconds of processor time that it and what it cannot do without have used; none for the model itself.
    pub(crate) fn cpu_s(&self) -> Option<f64> {
        let own = self.program.as_ref()?.cpu_s();
        Some(own + self.beside.iter().map(Program::cpu_s).sum::<f64>())
    }
}

impl Setting<'_> {
    pub(crate) fn start(
        &self,
        name: &str,
        core: &str,
        command: &[String],
        variables: &[(&str, &str)],
    ) -> Result<Program, Error> {
        Program::start(Some(core), command, variables, &self.folder.join(format!("{name}.log")))
    }
}

pub fn bearer(credential: &str) -> Vec<(String, String)> {
    vec![("authorization".into(), format!("Bearer {credential}"))]
}

/// The model behind everything.
pub fn model(setting: &Setting<'_>) -> Result<Program, Error> {
    let keys = setting.folder.join("jwks.json");
    fs::write(&keys, setting.jwks.to_string())?;
    let binary = setting.binaries.join("mock").display().to_string();
    let command = [binary, setting.upstream.to_string(), keys.display().to_string()];
    setting.start("mock", LOAD_CORE, &command, &[])
}

/// A service that says yes to every proxy, on the gateway's core, and its address.
pub fn yes(setting: &Setting<'_>) -> Result<(Program, SocketAddr), Error> {
    let (address, keys) = (free_address()?, setting.folder.join("jwks.json"));
    fs::write(&keys, setting.jwks.to_string())?;
    let binary = setting.binaries.join("mock").display().to_string();
    let command = [binary, address.to_string(), keys.display().to_string()];
    Ok((setting.start("yes", GATEWAY_CORE, &command, &[])?, address))
}

pub fn direct(setting: &Setting<'_>) -> Gateway {
    Gateway {
        program: None,
        beside: Vec::new(),
        address: setting.upstream,
        headers: bearer("none"),
        model: "bench".into(),
    }
}

/// The bare proxy, with a journal behind it if `journal`.
pub fn bare(setting: &Setting<'_>, journal: bool) -> Result<Gateway, Error> {
    let address = free_address()?;
    let binary = setting.binaries.join("bare").display().to_string();
    let mut command = vec![binary, address.to_string(), setting.upstream.to_string()];
    if journal {
        command.push(setting.folder.join("journal").display().to_string());
    }
    let program = Some(setting.start("bare", GATEWAY_CORE, &command, &[])?);
    Ok(Gateway { program, beside: Vec::new(), address, headers: bearer("none"), model: "bench".into() })
}

/// What Envoy checks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Envoy {
    Nothing,
    /// The token on every request, and one rule about its claims.
    Token,
    /// The same, with Envoy's own cache of verified tokens.
    TokenCached,
    /// Nothing itself: it asks the service at this address (`ext_authz`).
    Asking(Asked),
}

/// Whom Envoy asks, and how.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    pub at: SocketAddr,
    pub by: Protocol,
}

/// How Envoy's `ext_authz` asks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    Grpc,
    Http,
}

pub fn envoy(setting: &Setting<'_>, checks: Envoy) -> Result<Gateway, Error> {
    let address = free_address()?;
    let path = setting.folder.join("envoy.json");
    fs::write(&path, envoy_config(setting, checks, address).to_string())?;
    let mut command = vec![setting.python.join("bin/envoy").display().to_string()];
    command.extend(["-c".to_owned(), path.display().to_string()]);
    command
        .extend(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error"].map(str::to_owned));
    let program = Some(setting.start("envoy", GATEWAY_CORE, &command, &[])?);
    let headers = bearer(if checks == Envoy::Nothing { "none" } else { setting.token });
    Ok(Gateway { program, beside: Vec::new(), address, headers, model: "bench".into() })
}

fn envoy_config(setting: &Setting<'_>, checks: Envoy, address: SocketAddr) -> Value {
    let socket = |address: SocketAddr| json!({"socket_address": {"address": address.ip().to_string(), "port_value": address.port()}});
    let filter = |name: &str, kind: &str, mut config: Value| {
        if let Some(members) = config.as_object_mut() {
            members.insert(
                "@type".into(),
                format!("type.googleapis.com/envoy.extensions.filters.http.{kind}").into(),
            );
        }
        json!({"name": name, "typed_config": config})
    };
    let mut filters = Vec::new();
    let mut asked = None;
    if let Envoy::Asking(whom) = checks {
        let mut config = json!({"transport_api_version": "V3", "failure_mode_allow": false});
        let (name, service) = match whom.by {
            Protocol::Grpc => {
                ("grpc_service", json!({"envoy_grpc": {"cluster_name": "asked"}, "timeout": "5s"}))
            }
            Protocol::Http => {
                let uri = json!({"uri": format!("http://{}", whom.at), "cluster": "asked", "timeout": "5s"});
                // Everything may be seen there, as docs/mesh.md says.
                ("http_service", json!({"server_uri": uri, "path_prefix": "/ext_authz"}))
            }
        };
        config.as_object_mut().map(|members| members.insert(name.into(), service));
        if whom.by == Protocol::Http {
            let all = json!({"patterns": [{"safe_regex": {"regex": ".*"}}]});
            config.as_object_mut().map(|members| members.insert("allowed_headers".into(), all));
        }
        filters.push(filter("envoy.filters.http.ext_authz", "ext_authz.v3.ExtAuthz", config));
        asked = Some(whom);
    } else if checks != Envoy::Nothing {
        let mut provider = json!({
            "issuer": ISSUER, "audiences": [AUDIENCE], "payload_in_metadata": "claims",
            "local_jwks": {"inline_string": setting.jwks.to_string()},
        });
        if checks == Envoy::TokenCached {
            provider
                .as_object_mut()
                .map(|p| p.insert("jwt_cache_config".into(), json!({"jwt_cache_size": 1_000})));
        }
        let rules = json!([{"match": {"prefix": "/"}, "requires": {"provider_name": "bench"}}]);
        filters.push(filter(
            "jwt",
            "jwt_authn.v3.JwtAuthentication",
            json!({"providers": {"bench": provider}, "rules": rules}),
        ));
        let claim = |name: &str, value: Value| json!({"metadata": {"filter": "envoy.filters.http.jwt_authn", "path": [{"key": "claims"}, {"key": name}], "value": value}});
        let group = json!({"list_match": {"one_of": {"string_match": {"exact": "model-user"}}}});
        let principal = json!({"and_ids": {"ids": [
            claim("groups", group), claim("sub", json!({"string_match": {"exact": SUBJECT}}))
        ]}});
        let permission = json!({"and_rules": {"rules": [
            {"header": {"name": ":method", "string_match": {"exact": "POST"}}},
            {"url_path": {"path": {"prefix": "/v1/"}}}
        ]}});
        let policy = json!({"permissions": [permission], "principals": [principal]});
        filters.push(filter(
            "rbac",
            "rbac.v3.RBAC",
            json!({"rules": {"action": "ALLOW", "policies": {"models": policy}}}),
        ));
    }
    filters.push(filter("router", "router.v3.Router", json!({})));
    let manager = json!({
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "bench",
        "http_filters": filters,
        "route_config": {"virtual_hosts": [{
            "name": "all", "domains": ["*"],
            "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "model", "timeout": "0s"}}],
        }]},
    });
    let no_limit = json!({"priority": "DEFAULT", "max_connections": 10_000, "max_pending_requests": 10_000, "max_requests": 10_000});
    let cluster = |name: &str, at: SocketAddr| {
        json!({
            "name": name, "type": "STATIC", "connect_timeout": "5s",
            "circuit_breakers": {"thresholds": [no_limit]},
            "load_assignment": {"cluster_name": name, "endpoints": [{
                "lb_endpoints": [{"endpoint": {"address": socket(at)}}],
            }]},
        })
    };
    let mut clusters = vec![cluster("model", setting.upstream)];
    if let Some(whom) = asked {
        let mut service = cluster("asked", whom.at);
        if whom.by == Protocol::Grpc {
            let options = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }});
            service
                .as_object_mut()
                .map(|members| members.insert("typed_extension_protocol_options".into(), options));
        }
        clusters.push(service);
    }
    json!({"static_resources": {
        "listeners": [{
            "name": "data", "address": socket(address),
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }],
        "clusters": clusters,
    }})
}

/// The LiteLLM proxy with one worker and its master key. Virtual keys would need its database besides.
pub fn litellm(setting: &Setting<'_>) -> Result<Gateway, Error> {
    let address = free_address()?;
    let path = setting.folder.join("litellm.yaml");
    let key = "sk-bench-5f2c8a1e9d7b4c6f";
    let parameters = json!({"model": "openai/bench", "api_base": format!("http://{}/v1", setting.upstream), "api_key": "none"});
    let mcp = json!({"url": format!("http://{}/mcp", setting.upstream), "transport": "http"});
    let config = json!({
        "model_list": [{"model_name": "bench", "litellm_params": parameters}],
        "general_settings": {"master_key": key},
        "mcp_servers": {"bench": mcp},
    });
    // JSON is YAML.
    fs::write(&path, config.to_string())?;
    let mut command = vec![setting.python.join("bin/litellm").display().to_string()];
    command.extend(["--config".to_owned(), path.display().to_string()]);
    command.extend([
        "--host".to_owned(),
        address.ip().to_string(),
        "--port".to_owned(),
        address.port().to_string(),
    ]);
    command.extend(["--num_workers", "1"].map(str::to_owned));
    let quiet = [
        ("LITELLM_LOG", "ERROR"),
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ("NO_PROXY", "*"),
        ("no_proxy", "*"),
    ];
    let program = Some(setting.start("litellm", GATEWAY_CORE, &command, &quiet)?);
    Ok(Gateway { program, beside: Vec::new(), address, headers: bearer(key), model: "bench".into() })
}
