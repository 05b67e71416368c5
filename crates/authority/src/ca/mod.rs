//! The house's own certificate authority: short certificates for programs that have none, so that our own processes and
//! services prove to each other who they are (mutual TLS, X.509-SVID).
//!
//! A certificate says what was proven when it was asked for, and nothing that the request wished: of the request only the key
//! counts, and that its holder signed it. It never lives longer than what was presented for it, is worth no more than that
//! (its row keeps the scopes), and is dead with its holder: a mark of an epoch, a disabled principal and a removed row all end
//! it at our own doors at once, its own end within the hour everywhere else.

mod leaf;
mod root;
#[cfg(test)]
mod tests;

use std::time::Duration;

use bartizan_base::{Digest, Name, Timestamp};
use bartizan_control::{Done, Stopped};
use bartizan_identify::spiffe::{SpiffeId, TrustBundle, TrustDomain};
use bartizan_identify::{Caller, IssuedCertificate};
use bartizan_model::{Action, CertificateId, PrincipalKind, Problem, ReasonCode, Tenant};
use bartizan_store::{RowKind, StoreError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Authority;
use crate::kept::{Kept, find, find_of, keep, owner};

pub use leaf::RequestError;
pub(crate) use root::Root;

/// The longest life of a certificate.
pub const LIFE_MAX: Duration = Duration::from_secs(3_600);
/// Below it a certificate is not worth asking for.
const LIFE_MIN: Duration = Duration::from_secs(60);
/// How many certificates of one holder are listed, and may live at once.
const LIVING_MAX: usize = 1_000;
/// How soon whoever trusts us should ask for our keys again: far within the time a new key waits before it signs.
pub const REFRESH: Duration = Duration::from_secs(3_600);

impl Kept for IssuedCertificate {
    const KIND: RowKind = RowKind::Certificate;

    fn owner(&self) -> String {
        owner(&self.principal)
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.ends)
    }
}

/// That a certificate was taken back before its end: every node hears of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Withdrawn {
    ends: Timestamp,
}

impl Kept for Withdrawn {
    const KIND: RowKind = RowKind::WithdrawnCertificate;

    fn owner(&self) -> String {
        String::new()
    }

    fn expires(&self) -> Option<Timestamp> {
        Some(self.ends)
    }
}

/// A certificate for its holder.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct IssuedView {
    /// Its id.
    pub id: CertificateId,
    /// The name in it.
    pub spiffe_id: String,
    /// The certificate, in PEM. It was signed by an authority itself: there is nothing between.
    pub certificate: String,
    /// The authorities of the trust domain, in PEM.
    pub trust: String,
    /// When it ends.
    pub ends_us: Timestamp,
    /// When to ask for the next one: at two thirds of its life.
    pub renew_us: Timestamp,
}

impl Authority {
    /// Issues a certificate to whoever asks, for the key of a certificate signing request (PKCS #10, in PEM).
    ///
    /// # Errors
    /// When policy says no, the request is not signed by its own key, somebody acts for another, or the asker is a person: for
    /// people there are tokens.
    pub async fn issue_certificate(
        &self,
        caller: &Caller,
        request: &str,
    ) -> Result<Done<IssuedView>, Stopped> {
        let now = self.control.clock.now();
        let asked = Digest::of(request.as_bytes());
        let invalid = |text: String| Problem::with_detail(ReasonCode::Invalid, text);
        let work = async |tenant: &Tenant| {
            let key = leaf::requested(request).map_err(|e| invalid(e.to_string()))?;
            let id = self.spiffe_id(caller)?;
            let life = caller.expires().saturating_since(now).min(LIFE_MAX);
            if life < LIFE_MIN {
                return Err(invalid("what was presented ends within a minute".to_owned()));
            }
            let holder = caller.subject().principal.clone();
            let living =
                find_of::<IssuedCertificate>(&*self.rows, tenant, &owner(&holder), LIVING_MAX, now).await;
            if living.map_err(failed)?.len() >= LIVING_MAX {
                return Err(invalid(format!("{LIVING_MAX} of its certificates are alive already")));
            }
            let (roots, mut changes) = self.roots_at(tenant, id.domain(), now).await?;
            let signer = root::signer(&roots, now).ok_or_else(|| Problem::new(ReasonCode::Internal))?;
            let crt = CertificateId::new(now, &*self.control.random);
            let signing = signer.open(tenant, &self.control.sealer).map_err(broken)?;
            let ends = now.saturating_add(life);
            let made = leaf::sign(&signing, &key, &id, crt, now, ends, &*self.control.random);
            let der = made.map_err(broken)?;
            let issued = IssuedCertificate {
                principal: holder,
                spiffe: id.to_string(),
                thumbprint: Digest::of(&der),
                scopes: caller.scopes().clone(),
                issued: now,
                ends,
            };
            changes.push(keep(tenant, row_id(&issued.thumbprint), &issued).map_err(failed)?);
            let view = IssuedView {
                id: crt,
                spiffe_id: id.to_string(),
                certificate: leaf::pem(&der),
                trust: roots.iter().map(|root| leaf::pem(&root.der())).collect(),
                ends_us: ends,
                renew_us: now.saturating_add(life * 2 / 3),
            };
            Ok((changes, view))
        };
        self.control
            .change_with(caller, Action::CertificateIssue, &("certificate", asked), async |_, tenant| {
                work(tenant).await
            })
            .await
    }

    /// The keys that our certificates can be verified by, for whoever asks: those that sign, and the next ones before they do.
    ///
    /// # Errors
    /// When the state database does not answer; `NotFound` before the first certificate was issued.
    pub async fn trust_bundle(&self, tenant: &Tenant) -> Result<(TrustBundle, u64), Problem> {
        let now = self.control.clock.now();
        let domain = self.trust_domain()?;
        let roots = root::known(&*self.rows, tenant, now).await.map_err(failed)?;
        let roots: Vec<Root> =
            roots.into_iter().map(|held| held.value).filter(|r| r.is_of(&domain)).collect();
        if roots.is_empty() {
            return Err(Problem::with_detail(ReasonCode::NotFound, "no certificate was issued yet"));
        }
        let sequence = roots.iter().map(Root::sequence).max().unwrap_or_default();
        let authorities = roots.iter().map(|root| root.der().into()).collect();
        let bundle = TrustBundle::of_authorities(domain, authorities).map_err(broken)?;
        Ok((bundle, sequence))
    }

    /// Takes back a certificate: our own doors refuse it from now on.
    ///
    /// # Errors
    /// When policy says no, or it is not the asker's own.
    pub async fn withdraw_certificate(
        &self,
        caller: &Caller,
        thumbprint: Digest,
    ) -> Result<Done<()>, Stopped> {
        let now = self.control.clock.now();
        let own = caller.subject().principal.id;
        self.control
            .change_with(caller, Action::CertificateIssue, &("withdraw", thumbprint), async |_, tenant| {
                let found = find::<IssuedCertificate>(&*self.rows, &row_id(&thumbprint), now)
                    .await
                    .map_err(failed)?;
                let held = found
                    .filter(|held| held.tenant == *tenant && held.value.principal.id == own)
                    .ok_or_else(|| Problem::new(ReasonCode::NotFound))?;
                let withdrawn = Withdrawn { ends: held.value.ends };
                let withdrawn = keep(tenant, row_id(&thumbprint), &withdrawn).map_err(failed)?;
                Ok((vec![held.remove(), withdrawn], ()))
            })
            .await
    }

    /// Our own trust domain: what the configuration says, or the host of the issuer's address.
    ///
    /// # Errors
    /// `Invalid` when the host cannot be one.
    pub fn trust_domain(&self) -> Result<TrustDomain, Problem> {
        TrustDomain::of_address(&self.issuer).ok_or_else(|| {
            Problem::with_detail(ReasonCode::Invalid, "the issuer's host cannot be a trust domain")
        })
    }

    /// The name of whoever asks: `spiffe://trust.domain/workload/NAME`.
    fn spiffe_id(&self, caller: &Caller) -> Result<SpiffeId, Problem> {
        let invalid = |text: &str| Problem::with_detail(ReasonCode::Invalid, text);
        // A certificate has no actors in it: it would be worth the subject's whole right to one who only acts for them.
        if !caller.actors().is_empty() {
            return Err(invalid("a certificate is for whoever asks themselves, not through others"));
        }
        let principal = &caller.subject().principal;
        let kind = match principal.kind {
            PrincipalKind::Workload => "workload",
            PrincipalKind::Agent => "agent",
            PrincipalKind::User | PrincipalKind::Anonymous => {
                return Err(invalid("certificates are for workloads and agents; people have tokens"));
            }
        };
        let segments: Vec<&str> = std::iter::once(kind).chain(principal.name.split('/')).collect();
        let id = self.trust_domain()?.workload(&segments);
        id.map_err(|_| invalid("the name holds characters that a certificate cannot name: `@`, `:`, `+`"))
    }

    /// The authorities at this moment, with the changes that make a new one where it is time.
    async fn roots_at(
        &self,
        tenant: &Tenant,
        domain: &TrustDomain,
        now: Timestamp,
    ) -> Result<(Vec<Root>, Vec<bartizan_store::Change>), Problem> {
        let known = root::known(&*self.rows, tenant, now).await.map_err(failed)?;
        let mut roots: Vec<Root> =
            known.into_iter().map(|held| held.value).filter(|r| r.is_of(domain)).collect();
        let mut changes = Vec::new();
        if let Some(plan) = root::due(&roots, now) {
            let control = &self.control;
            let made = Root::make(tenant, domain, plan, &roots, now, &control.sealer, &*control.random);
            let (id, made) = made.map_err(broken)?;
            changes.push(keep(tenant, id.to_string(), &made).map_err(failed)?);
            roots.push(made);
        }
        Ok((roots, changes))
    }
}

fn row_id(thumbprint: &Digest) -> String {
    thumbprint.to_string()
}

fn failed(error: StoreError) -> Problem {
    Stopped::from(error).problem
}

fn broken(error: impl std::error::Error + 'static) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "the certificate authority failed");
    Problem::new(ReasonCode::Internal)
}

/// The name under which a root's key is sealed.
fn sealed_name(id: CertificateId) -> Result<Name, bartizan_base::text::TextError> {
    format!("certificate-authority/{id}").parse()
}
