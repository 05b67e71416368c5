//! An authorization server and resource of others, in memory, honest unless told otherwise.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bartizan_authority::connections::{ConnectError, Outside};
use bartizan_base::time::ManualClock;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use serde_json::{Value, json};

pub(crate) const RESOURCE: &str = "https://tools.example/mcp";
pub(crate) const ISSUER: &str = "https://as.example/tenant";
pub(crate) const CLIENT_SECRET: &str = "our-secret-at-the-provider";

/// What it says and does; each test changes what it is about.
#[derive(Debug)]
pub(crate) struct Habits {
    pub(crate) resource: Value,
    pub(crate) metadata: Value,
    /// Addresses that answer beside the true ones.
    pub(crate) extra: BTreeMap<String, Value>,
    /// Whether a refresh token that is used twice ends everything.
    pub(crate) rotates: bool,
    pub(crate) expires_in: u64,
}

#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) habits: Mutex<Habits>,
    pub(crate) asked: Mutex<Vec<(String, String)>>,
    alive: Mutex<BTreeSet<String>>,
    dead: Mutex<bool>,
    count: AtomicU64,
    _clock: Arc<ManualClock>,
}

impl Provider {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        let metadata = json!({
            "issuer": ISSUER,
            "authorization_endpoint": "https://as.example/authorize",
            "token_endpoint": "https://as.example/token",
            "revocation_endpoint": "https://as.example/revoke",
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": true,
            "scopes_supported": ["files:read", "files:write", "offline_access"],
        });
        let resource = json!({"resource": RESOURCE, "authorization_servers": [ISSUER], "scopes_supported": ["files:read", "admin"]});
        let habits = Habits { resource, metadata, extra: BTreeMap::new(), rotates: true, expires_in: 300 };
        Self {
            habits: Mutex::new(habits),
            asked: Mutex::default(),
            alive: Mutex::default(),
            dead: Mutex::default(),
            count: AtomicU64::new(0),
            _clock: clock,
        }
    }

    pub(crate) fn set(&self, change: impl FnOnce(&mut Habits)) {
        change(&mut self.habits.lock().unwrap());
    }

    /// How often an address was asked for.
    pub(crate) fn count(&self, end: &str) -> usize {
        self.asked.lock().unwrap().iter().filter(|(address, _)| address.ends_with(end)).count()
    }

    /// The last body that was sent there.
    pub(crate) fn last(&self, end: &str) -> String {
        let asked = self.asked.lock().unwrap();
        asked.iter().rfind(|(address, _)| address.ends_with(end)).unwrap().1.clone()
    }

    pub(crate) fn alive(&self) -> usize {
        self.alive.lock().unwrap().len()
    }

    fn answer(&self, address: &str, body: &str) -> (u16, Value) {
        let habits = self.habits.lock().unwrap();
        if let Some(value) = habits.extra.get(address) {
            return (200, value.clone());
        }
        match address {
            "https://tools.example/.well-known/oauth-protected-resource/mcp" => {
                (200, habits.resource.clone())
            }
            "https://as.example/.well-known/oauth-authorization-server/tenant" => {
                (200, habits.metadata.clone())
            }
            "https://as.example/token" => self.token(&habits, body),
            "https://as.example/revoke" => {
                let token = field(body, "token");
                self.alive.lock().unwrap().remove(&token);
                (200, json!({}))
            }
            _ => (404, Value::Null),
        }
    }

    fn token(&self, habits: &Habits, body: &str) -> (u16, Value) {
        let number = self.count.fetch_add(1, Ordering::SeqCst) + 1;
        if field(body, "grant_type") == "refresh_token" {
            let token = field(body, "refresh_token");
            let known = self.alive.lock().unwrap().remove(&token);
            if !known || *self.dead.lock().unwrap() {
                // As RFC 9700 has it: whoever comes with a used one ends them all.
                *self.dead.lock().unwrap() = habits.rotates;
                return (400, json!({"error": "invalid_grant"}));
            }
        }
        let refresh = format!("outside-refresh-{number}");
        self.alive.lock().unwrap().insert(refresh.clone());
        let answer = json!({
            "token_type": "Bearer", "access_token": format!("outside-access-{number}"),
            "refresh_token": refresh, "expires_in": habits.expires_in,
        });
        (200, answer)
    }
}

pub(crate) fn field(body: &str, name: &str) -> String {
    let pair = body.split('&').find_map(|pair| pair.split_once('=').filter(|(n, _)| *n == name));
    pair.map(|(_, value)| value.to_owned()).unwrap_or_default()
}

impl Outside for Provider {
    fn exchange<'a>(
        &'a self,
        request: Request<Bytes>,
        private: bool,
    ) -> BoxFuture<'a, Result<Response<Bytes>, ConnectError>> {
        Box::pin(async move {
            assert!(!private);
            let address = request.uri().to_string();
            let body = String::from_utf8(request.body().to_vec()).unwrap();
            let header = request.headers().get("authorization").map(|v| v.to_str().unwrap().to_owned());
            let body_seen = format!("{body}&authorization={}", header.unwrap_or_default());
            self.asked.lock().unwrap().push((address.clone(), body_seen));
            // Others have their turn here, as over a network.
            tokio::task::yield_now().await;
            let (status, value) = self.answer(&address, &body);
            let answer = Response::builder().status(status).body(Bytes::from(value.to_string()));
            Ok(answer.unwrap())
        })
    }
}
