//! Somebody who is logged in: their token for each request, refreshed when it is due, by one process at a time.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bartizan_jose::SigningKey;
use bartizan_model::COMMAND_LINE;
use bartizan_secret::Secret;

use super::kept::Tokens;
use super::token::{self, Told};
use super::{Login, LoginError, Machine};
use crate::contexts::ContextName;
use crate::private;
use crate::server::Server;

/// How long before its end a token is taken for over: a request takes a while to arrive.
const MARGIN: Duration = Duration::from_secs(15);

/// Somebody who is logged in in a context.
#[derive(Debug)]
pub struct SignedIn {
    machine: Machine,
    context: ContextName,
    place: PathBuf,
    held: Mutex<Held>,
}

#[derive(Debug)]
struct Held {
    tokens: Tokens,
    key: SigningKey,
}

/// What an answer asks of whoever sent the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// Nothing.
    Answer,
    /// To come again with the nonce that it gave.
    WithNonce,
    /// To come again with another token.
    WithToken,
}

/// The headers of one request.
pub(crate) struct Presented {
    pub(crate) authorization: Secret<String>,
    pub(crate) proof: Secret<String>,
    /// The token that is in them.
    pub(crate) token: Secret<String>,
}

impl SignedIn {
    /// Who is logged in in a context, at `server` and nowhere else.
    ///
    /// # Errors
    /// When nobody is, or what is kept cannot be used.
    pub fn open(
        machine: &Machine,
        folder: &Path,
        context: &ContextName,
        server: &Server,
    ) -> Result<Self, LoginError> {
        let place = Tokens::place(folder, context);
        let absent = || LoginError::NotSignedIn(context.clone());
        // A context that was pointed at another server takes no tokens along.
        let tokens = Tokens::read(&place)?.filter(|tokens| tokens.server == *server).ok_or_else(absent)?;
        let key = tokens.key()?;
        let held = Mutex::new(Held { tokens, key });
        Ok(Self { machine: machine.clone(), context: context.clone(), place, held })
    }

    /// Keeps a login in a context, and ends the one that was there before.
    ///
    /// # Errors
    /// When it cannot be kept. It is then ended again.
    pub fn keep(
        machine: &Machine,
        folder: &Path,
        context: &ContextName,
        login: &Login,
    ) -> Result<(), LoginError> {
        let place = Tokens::place(folder, context);
        let replaced = || {
            let _lock = private::lock(&place)?;
            // What cannot be read any more cannot be ended; it is replaced all the same.
            let before = Tokens::read(&place).ok().flatten();
            login.0.write(&place)?;
            Ok(before)
        };
        match replaced() {
            Ok(None) => Ok(()),
            Ok(Some(before)) => {
                // It dies of itself where the server cannot be told.
                revoke(machine, &before).unwrap_or_default();
                Ok(())
            }
            Err(error) => {
                revoke(machine, &login.0).unwrap_or_default();
                Err(error)
            }
        }
    }

    /// Ends what a context holds: at the authority, and here. Here in any case. False if there was nothing.
    ///
    /// # Errors
    /// When the authority could not be told, or the file not be removed.
    pub fn forget(machine: &Machine, folder: &Path, context: &ContextName) -> Result<bool, LoginError> {
        let place = Tokens::place(folder, context);
        let _lock = private::lock(&place)?;
        let tokens = Tokens::read(&place);
        let was_there = private::remove(&place)?;
        if let Some(tokens) = tokens? {
            revoke(machine, &tokens)?;
        }
        Ok(was_there)
    }

    /// The scopes that were allowed.
    #[must_use]
    pub fn scope(&self) -> String {
        self.held().tokens.scope.clone()
    }

    /// What is presented for one request.
    pub(crate) fn present(&self, method: &str, url: &str) -> Result<Presented, LoginError> {
        let mut held = self.held();
        if held.tokens.until() <= self.machine.clock.now().saturating_add(MARGIN) {
            self.renew(&mut held)?;
        }
        let token = held.tokens.access_token.clone();
        let nonce = held.tokens.nonce.clone();
        let proof = token::proof(&self.machine, &held.key, (method, url), Some(&token), nonce.as_deref())?;
        let authorization = Secret::new(format!("DPoP {}", token.expose()));
        Ok(Presented { authorization, proof, token })
    }

    /// Learns from an answer, and says what it asks for.
    pub(crate) fn hear<'a>(
        &self,
        status: u16,
        nonce: Option<&str>,
        mut challenges: impl Iterator<Item = &'a str>,
    ) -> Heard {
        if let Some(nonce) = nonce {
            self.held().tokens.nonce = Some(nonce.to_owned());
        }
        if status != 401 {
            return Heard::Answer;
        }
        challenges
            .find_map(|challenge| match challenge {
                c if c.contains("error=\"use_dpop_nonce\"") => Some(Heard::WithNonce),
                c if c.contains("error=\"invalid_token\"") => Some(Heard::WithToken),
                _ => None,
            })
            .unwrap_or(Heard::Answer)
    }

    /// Gets another token than the one that was refused.
    pub(crate) fn replace(&self, refused: &Secret<String>) -> Result<(), LoginError> {
        let mut held = self.held();
        if held.tokens.access_token == *refused { self.renew(&mut held) } else { Ok(()) }
    }

    /// Refreshes, unless another process has done it meanwhile. A refresh token is good once, so it is redeemed under the lock
    /// of the file, and its successor kept before the lock is given back.
    fn renew(&self, held: &mut Held) -> Result<(), LoginError> {
        let _lock = private::lock(&self.place)?;
        let over = || LoginError::Over(self.context.clone());
        // Somebody may have logged out, or in again.
        let kept = Tokens::read(&self.place)?.filter(|kept| kept.server == held.tokens.server);
        let kept = kept.ok_or_else(|| LoginError::NotSignedIn(self.context.clone()))?;
        let key = kept.key()?;
        let another = kept.access_token != held.tokens.access_token;
        if another && kept.until() > self.machine.clock.now().saturating_add(MARGIN) {
            *held = Held { tokens: kept, key };
            return Ok(());
        }
        let refresh = kept.refresh_token.clone().ok_or_else(over)?;
        let pairs = [
            ("grant_type", "refresh_token"),
            ("client_id", COMMAND_LINE),
            ("refresh_token", refresh.expose().as_str()),
            ("resource", kept.resource()),
        ];
        let mut nonce = kept.nonce.clone();
        let began = self.machine.clock.now();
        let told = token::post(&self.machine, kept.token_endpoint(), &pairs, &key, &mut nonce);
        match told.and_then(Told::tokens) {
            Ok(given) => {
                let tokens = kept.renewed(given, began, nonce);
                tokens.write(&self.place)?;
                *held = Held { tokens, key };
                Ok(())
            }
            Err(LoginError::Refused { error, .. }) if error.as_str() == "invalid_grant" => Err(over()),
            Err(error) => Err(error),
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a login at the authority (RFC 7009): the refresh token, and with it whatever came of it.
fn revoke(machine: &Machine, tokens: &Tokens) -> Result<(), LoginError> {
    let token = tokens.refresh_token.as_ref().unwrap_or(&tokens.access_token);
    let pairs = [("client_id", COMMAND_LINE), ("token", token.expose().as_str())];
    let mut nonce = tokens.nonce.clone();
    let told = token::post(machine, tokens.revocation_endpoint(), &pairs, &tokens.key()?, &mut nonce)?;
    told.good().map(drop)
}
