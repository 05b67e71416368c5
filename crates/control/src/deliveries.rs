//! Deliveries and mirrors: what may be declared, how they are doing, and dead letters sent again.

use std::fmt::Debug;

use bartizan_base::Name;
use bartizan_identify::Caller;
use bartizan_model::action::{ChangeState, ReadState};
use bartizan_model::delivery::{
    DeliveryFormat, DeliverySpec, Destination, HttpTo, NatsTo, S3To, SyslogTo, SyslogTransport,
};
use bartizan_model::{Action, Document, NodeId, Problem, ReasonCode, Spec, Target, Tenant};
use bartizan_query::Query;
use futures_util::future::BoxFuture;
use schemars::JsonSchema;
use serde::Serialize;

use crate::resources::check_url;
use crate::turn::{Turn, finish};
use crate::{Control, Done, Stopped};

/// What carries records to other systems; the binary introduces the one who does.
pub trait Couriers: Debug + Send + Sync {
    /// The feature that `spec` needs and this program was built without.
    fn absent_feature(&self, spec: &Spec) -> Option<&'static str>;

    /// How the deliveries and mirrors of `tenant` are doing on this node.
    fn list(&self, tenant: &Tenant) -> Vec<DeliveryView>;

    /// The dead letters of a delivery on this node, the oldest first.
    fn letters<'a>(
        &'a self,
        tenant: &'a Tenant,
        name: &'a Name,
    ) -> BoxFuture<'a, Result<Vec<LetterView>, Problem>>;

    /// Sends a dead letter again; it goes once it is taken.
    fn retry<'a>(
        &'a self,
        tenant: &'a Tenant,
        name: &'a Name,
        letter: &'a str,
    ) -> BoxFuture<'a, Result<(), Problem>>;
}

/// How a delivery or mirror is doing on the node that was asked: each node delivers its own ledger.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DeliveryView {
    /// `delivery` or `mirror`.
    pub kind: &'static str,
    /// Its name.
    pub name: Name,
    /// The node.
    #[schemars(with = "String")]
    pub node: NodeId,
    /// Whether it runs.
    pub state: DeliveryState,
    /// How many sealed entries are not there yet.
    pub behind: u64,
    /// The log and the index of the last entry that is there, lies in a dead letter or was passed over.
    pub done: Option<(String, u64)>,
    /// Records delivered since it was started.
    pub records: u64,
    /// When something was last delivered.
    pub last_success: Option<String>,
    /// What failed since it was started.
    pub failures: u64,
    /// Why it fails now.
    pub failing: Option<String>,
    /// How many dead letters there are.
    pub dead_letters: u64,
}

/// Whether a delivery runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryState {
    /// It runs.
    Running,
    /// It cannot be started, or its last try failed; it is tried again.
    Failing,
    /// It is declared so.
    Disabled,
}

/// A batch that its receiver would not take. What is in it is in the ledger.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct LetterView {
    /// Its id, as the receiver saw it.
    pub id: String,
    /// The log.
    pub origin: String,
    /// The first entry it covers.
    pub first: u64,
    /// The last entry it covers.
    pub last: u64,
    /// How many records it holds.
    pub records: u32,
    /// Why it was not taken.
    pub cause: String,
    /// When.
    pub refused: String,
}

impl Control {
    /// How deliveries and mirrors are doing.
    ///
    /// # Errors
    /// When policy says no.
    pub async fn list_deliveries(&self, caller: &Caller) -> Result<Done<Vec<DeliveryView>>, Stopped> {
        self.read(caller, Action::ResourceRead, &"deliveries", |_, tenant| Ok(self.couriers.list(tenant)))
            .await
    }

    /// The dead letters of a delivery.
    ///
    /// # Errors
    /// When policy says no or there is no such delivery.
    pub async fn list_letters(&self, caller: &Caller, name: &Name) -> Result<Done<Vec<LetterView>>, Stopped> {
        let request = ("letters", name);
        let Turn { intent, .. } =
            self.ask::<ReadState>(caller, Action::ResourceRead, &request, Target::House).await?;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        let letters = self.couriers.letters(caller.tenant(), name).await;
        finish(intent.begin(), letters, receipt, decision)
    }

    /// Sends a dead letter again.
    ///
    /// # Errors
    /// When policy says no, there is no such letter, or it is not taken; then it stays.
    pub async fn retry_letter(
        &self,
        caller: &Caller,
        name: &Name,
        letter: &str,
    ) -> Result<Done<()>, Stopped> {
        let request = (name, letter);
        let Turn { intent, .. } =
            self.ask::<ChangeState>(caller, Action::DeliveryRetry, &request, Target::House).await?;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        let running = intent.begin();
        let sent = self.couriers.retry(caller.tenant(), name, letter).await;
        finish(running, sent, receipt, decision)
    }
}

/// What is wrong with a declared delivery or mirror.
pub(crate) fn check(document: &Document, couriers: &dyn Couriers) -> Result<(), Problem> {
    let name = &document.name;
    match &document.spec {
        Spec::Delivery(spec) => {
            delivery(spec).map_err(|why| invalid(name, &why))?;
            match &spec.destination {
                Destination::Http(HttpTo { url, allow_private }) => address(name, url, *allow_private)?,
                Destination::S3(store) => bucket(name, store)?,
                Destination::File(_) | Destination::Syslog(_) | Destination::Nats(_) => {}
            }
        }
        Spec::Mirror(spec) => {
            bucket(name, &spec.store)?;
            if !(1..=3_600).contains(&spec.interval_s) {
                return Err(invalid(name, "`interval_s` is 1 to 3,600 seconds"));
            }
        }
        _ => return Ok(()),
    }
    match couriers.absent_feature(&document.spec) {
        None => Ok(()),
        Some(feature) => Err(Problem::with_detail(
            ReasonCode::FeatureAbsent,
            format!("`{name}` needs the feature `{feature}`"),
        )),
    }
}

fn invalid(name: &Name, why: &str) -> Problem {
    Problem::with_detail(ReasonCode::Invalid, format!("`{name}`: {why}"))
}

fn delivery(spec: &DeliverySpec) -> Result<(), String> {
    let fits = match (&spec.destination, spec.format) {
        (Destination::File(_) | Destination::S3(_), format) => format != DeliveryFormat::Cef,
        (Destination::Syslog(_), format) => format != DeliveryFormat::OtlpJson,
        (Destination::Http(_) | Destination::Nats(_), _) => true,
    };
    if !fits {
        return Err(
            "this destination does not take this format: files and objects take `jsonl`, `ocsf` and \
                    `otlp-json`, syslog takes `jsonl`, `ocsf` and `cef`"
                .to_owned(),
        );
    }
    if let Some(query) = &spec.query {
        query.as_str().parse::<Query>().map_err(|error| format!("the query: {error}"))?;
    }
    match (&spec.destination, &spec.credential) {
        (Destination::File(_) | Destination::Syslog(_), Some(_)) => {
            return Err("this destination takes no credential".to_owned());
        }
        (Destination::Http(_) | Destination::S3(_), None) => {
            return Err("this destination needs a `credential`".to_owned());
        }
        (Destination::Nats(NatsTo { user: Some(_), .. }), None) => {
            return Err("a `user` needs a `credential`: the password".to_owned());
        }
        _ => {}
    }
    match &spec.destination {
        Destination::File(to) if !(1_024..=1 << 40).contains(&to.bytes_max) => {
            Err("`bytes_max` is 1,024 bytes to 1 TiB".to_owned())
        }
        Destination::File(to) if !(60..=31_622_400).contains(&to.age_max_s) => {
            Err("`age_max_s` is a minute to a year, in seconds".to_owned())
        }
        Destination::Syslog(to) => syslog(to),
        Destination::Nats(to) => nats(to),
        Destination::File(_) | Destination::Http(_) | Destination::S3(_) => Ok(()),
    }
}

fn syslog(to: &SyslogTo) -> Result<(), String> {
    if !is_host(&to.host) || to.port == Some(0) {
        return Err("a syslog receiver has a `host` and, if another than usual, a `port`".to_owned());
    }
    let max = if to.transport == SyslogTransport::Udp { 65_507 } else { 1 << 20 };
    if !(2_048..=max).contains(&to.message_max) {
        return Err(format!("`message_max` is 2,048 to {max} bytes"));
    }
    Ok(())
}

fn nats(to: &NatsTo) -> Result<(), String> {
    let word = |word: &str| {
        !word.is_empty() && word.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'*' | b'>'))
    };
    if !is_host(&to.host) || to.port == 0 {
        return Err("a NATS server has a `host` and a `port`".to_owned());
    }
    if !to.subject.split('.').all(word) {
        return Err("a `subject` is made of words with full stops between them, without wildcards".to_owned());
    }
    Ok(())
}

fn is_host(host: &str) -> bool {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b':');
    (1..=255).contains(&host.len()) && host.bytes().all(fits)
}

/// A proper URL; in the clear only where it may be private.
fn address(name: &Name, url: &str, allow_private: bool) -> Result<(), Problem> {
    check_url(name, url)?;
    if url.starts_with("http://") && !allow_private {
        return Err(invalid(name, "`http://` only with `allow_private`; use `https://`"));
    }
    Ok(())
}

fn bucket(name: &Name, store: &S3To) -> Result<(), Problem> {
    if let Some(endpoint) = &store.endpoint {
        address(name, endpoint, store.allow_private)?;
    }
    let texts = [&store.region, &store.bucket, &store.access_key_id];
    let fits = |text: &String| (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    if !texts.into_iter().all(fits) || store.bucket.contains('/') {
        return Err(invalid(name, "a store needs `region`, `bucket` and `access_key_id`"));
    }
    if store.prefix.len() > 255 || store.prefix.split('/').any(|part| part == "." || part == "..") {
        return Err(invalid(name, "a `prefix` has at most 255 bytes and no part `..`"));
    }
    Ok(())
}
