//! The command line as a client of the authority at whose control API it works: logging in by browser (RFC 8252) or by a code on
//! another device (RFC 8628), tokens bound to a key of this login (RFC 9449), kept and refreshed.

mod browser;
mod device;
mod discover;
mod error;
mod kept;
mod loopback;
mod signed_in;
mod token;

use std::sync::Arc;
use std::time::Duration;

use bartizan_base::{Clock, Random};

pub use device::Shown;
pub use error::LoginError;
pub use loopback::Loopback;
pub(crate) use signed_in::Heard;
pub use signed_in::SignedIn;

use crate::server::Server;
use discover::Discovered;
use kept::Tokens;

/// What is asked for by browser: what the control API asks for, also while the person is away.
const SCOPES: &[&str] = &["offline_access", "house:read", "house:change", "content:read", "self:use"];
/// What is asked for by a code that is typed elsewhere. What changes the house is never allowed that way.
const DEVICE_SCOPES: &[&str] = &["offline_access", "house:read", "self:use"];
/// How long somebody has for logging in and answering: the authority gives up then as well.
const PATIENCE: Duration = Duration::from_secs(600);

/// What logging in needs of the machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where numbers come from that nobody can guess.
    pub random: Arc<dyn Random>,
    agent: ureq::Agent,
}

impl Machine {
    /// A machine with this clock and these numbers.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self { clock, random, agent: crate::client::agent() }
    }

    /// Random bytes as text that an address can hold.
    fn text(&self) -> String {
        use base64::Engine as _;
        let mut bytes = [0; 32];
        self.random.fill(&mut bytes);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
    }
}

/// A wish to log in.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Only these scopes; all that the command line may have without.
    pub scopes: Vec<String>,
    /// Whether the person proves themselves anew, also where the browser is signed in.
    pub again: bool,
}

impl Wish {
    fn scope(&self, usual: &[&str]) -> String {
        if self.scopes.is_empty() { usual.join(" ") } else { self.scopes.join(" ") }
    }
}

/// A login that has just succeeded, not kept yet.
#[derive(Debug)]
pub struct Login(Tokens);

impl Login {
    /// By the browser on this machine; `open` is told the address.
    ///
    /// # Errors
    /// [`LoginError`].
    pub fn by_browser(
        machine: &Machine,
        server: &Server,
        wish: &Wish,
        open: impl FnOnce(&str),
    ) -> Result<Self, LoginError> {
        let found = Discovered::of(machine, server)?;
        browser::log_in(machine, server, &found, wish, open).map(Self)
    }

    /// By a code that is typed into a browser elsewhere; `show` is told what to show, `wait` passes time.
    ///
    /// # Errors
    /// [`LoginError`].
    pub fn by_device(
        machine: &Machine,
        server: &Server,
        wish: &Wish,
        show: impl FnOnce(&Shown),
        wait: impl Fn(Duration),
    ) -> Result<Self, LoginError> {
        let found = Discovered::of(machine, server)?;
        device::log_in(machine, server, &found, wish, show, wait).map(Self)
    }

    /// The scopes that were allowed.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.0.scope
    }
}
