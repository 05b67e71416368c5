//! Exit codes, as documented.

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitCode {
    /// It worked.
    Ok,
    /// It failed.
    Failed,
    /// It was denied, or a check found differences.
    Denied,
    /// What was given is not valid.
    Invalid,
    /// Authentication is needed.
    Unauthenticated,
    /// Something changed meanwhile: read again and retry.
    Conflict,
    /// It is pending, such as waiting for approval.
    Pending,
    /// Usage or configuration is wrong (sysexits `EX_USAGE`).
    Usage,
}

impl ExitCode {
    /// Every code, for the reference page.
    pub const ALL: &[Self] = &[
        Self::Ok,
        Self::Failed,
        Self::Denied,
        Self::Invalid,
        Self::Unauthenticated,
        Self::Conflict,
        Self::Pending,
        Self::Usage,
    ];

    /// The number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Denied => 2,
            Self::Invalid => 3,
            Self::Unauthenticated => 4,
            Self::Conflict => 5,
            Self::Pending => 8,
            Self::Usage => 64,
        }
    }

    /// What it means.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "it worked",
            Self::Failed => "it failed",
            Self::Denied => "it was denied, or a check found differences",
            Self::Invalid => "what was given is not valid",
            Self::Unauthenticated => "authentication is needed",
            Self::Conflict => "something changed meanwhile; read again and retry",
            Self::Pending => "it is pending, such as waiting for approval",
            Self::Usage => "usage or configuration is wrong",
        }
    }

    /// The code that fits an HTTP status and reason code of the control API.
    #[must_use]
    pub fn of(status: u16, reason: &str) -> Self {
        match (status, reason) {
            (_, "approval_required") => Self::Pending,
            (401, _) => Self::Unauthenticated,
            (403, _) => Self::Denied,
            (409 | 412, _) => Self::Conflict,
            (400 | 422, _) => Self::Invalid,
            _ => Self::Failed,
        }
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        code.number().into()
    }
}
