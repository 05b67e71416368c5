//! Searching and exporting the ledger: asks of their own, recorded like any other.

use std::str::FromStr;
use std::sync::Arc;

use bartizan_base::Name;
use bartizan_export::{Exporter, Format, Placed};
use bartizan_identify::Caller;
use bartizan_index::{Cursor, IndexError, LIMIT_MAX, Order, Page};
use bartizan_model::action::ReadLedger;
use bartizan_model::directory::Spec;
use bartizan_model::{Action, Problem, ReasonCode, Target, Tenant};
use bartizan_query::Query;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::turn::{Turn, finish};
use crate::{Control, Done, Stopped, View};

/// Rows of a page, if none are asked for.
const LIMIT_DEFAULT: usize = 100;
/// Entries of one export at the most: what is held in memory for it.
const EXPORT_MAX: usize = 10_000;

/// What comes first.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum First {
    /// The latest entries.
    #[default]
    Newest,
    /// The earliest entries.
    Oldest,
}

/// A question about the ledger.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SearchLedger {
    /// What is asked for, in the language of the reference page; absent for everything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query: Option<String>,
    /// A saved view, whose query must hold as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub view: Option<Name>,
    /// What comes first.
    #[serde(default)]
    pub first: First,
    /// How many entries, at most 1,000; 10,000 for an export.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<usize>,
    /// Where an earlier answer to the same question says to go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// A request for an export.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportLedger {
    /// Which entries.
    #[serde(default)]
    pub search: SearchLedger,
    /// `jsonl`, `ocsf`, `cef`, `otlp-json` or `parquet`.
    pub format: String,
}

/// Entries that were found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FoundEntries {
    /// The entries, in the order asked for.
    pub entries: Vec<FoundEntry>,
    /// The cursor of the next page; absent behind the last.
    pub next: Option<String>,
    /// The cursor of this page: asked for by it, it comes again as it is now.
    pub here: String,
}

/// An entry that was found.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct FoundEntry {
    /// The log that holds it.
    pub origin: String,
    /// Its index there.
    pub index: u64,
    /// The size of the signed checkpoint that it was held against.
    pub verified_size: u64,
    /// The entry, word for word.
    pub entry: String,
}

/// An export.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The bytes, in the format asked for.
    pub bytes: Vec<u8>,
    /// Their media type.
    pub media_type: &'static str,
    /// The cursor of what follows; absent when that was all.
    pub next: Option<String>,
}

/// A question that was read.
struct Question {
    query: Query,
    order: Order,
    cursor: Option<Cursor>,
}

impl Control {
    /// Searches the caller's ledger.
    ///
    /// # Errors
    /// When policy says no, the query or cursor cannot be read, or the answer takes too long.
    pub async fn search_ledger(
        &self,
        caller: &Caller,
        request: &SearchLedger,
    ) -> Result<Done<FoundEntries>, Stopped> {
        let Turn { view, intent } =
            self.ask::<ReadLedger>(caller, Action::LedgerRead, request, Target::House).await?;
        let found = async {
            let limit = request.limit.unwrap_or(LIMIT_DEFAULT).clamp(1, LIMIT_MAX);
            let page = self.page(caller.tenant(), question(&view, caller.tenant(), request)?, limit).await?;
            Ok(self.told(caller.tenant(), page))
        };
        let found = found.await;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), found, receipt, decision)
    }

    /// Exports entries of the caller's ledger, at most 10,000 at once.
    ///
    /// # Errors
    /// As for [`Control::search_ledger`], and for an unknown format.
    pub async fn export_ledger(
        &self,
        caller: &Caller,
        request: &ExportLedger,
    ) -> Result<Done<Exported>, Stopped> {
        let Turn { view, intent } =
            self.ask::<ReadLedger>(caller, Action::LedgerExport, request, Target::House).await?;
        let exported = self.export(&view, caller.tenant(), request).await;
        let (receipt, decision) = (intent.receipt().clone(), intent.decision());
        finish(intent.begin(), exported, receipt, decision)
    }

    async fn export(
        &self,
        view: &View,
        tenant: &Tenant,
        request: &ExportLedger,
    ) -> Result<Exported, Problem> {
        let format = Format::from_str(&request.format)
            .map_err(|e| Problem::with_detail(ReasonCode::BodyMalformed, e.to_string()))?;
        let mut exporter = Exporter::new(format, Vec::new()).map_err(unwritable)?;
        let mut question = question(view, tenant, &request.search)?;
        let sizes = self.archive.sizes(tenant);
        let mut rest = request.search.limit.unwrap_or(EXPORT_MAX).clamp(1, EXPORT_MAX);
        loop {
            let again = Question { query: question.query.clone(), ..question };
            let page = self.page(tenant, again, rest.min(LIMIT_MAX)).await?;
            rest -= page.rows.len().min(rest);
            for row in page.rows {
                let origin: Arc<str> = row.place.origin;
                let size = sizes.get(&origin).copied().unwrap_or(row.place.index + 1);
                let placed = Placed::read(origin, row.place.index, size, &row.entry);
                exporter.write(&placed).map_err(unwritable)?;
            }
            match page.next {
                Some(next) if rest > 0 => question.cursor = Some(next),
                next => {
                    let bytes = exporter.finish().map_err(unwritable)?;
                    let next = next.map(|c| c.to_string());
                    return Ok(Exported { bytes, media_type: format.media_type(), next });
                }
            }
        }
    }

    pub(crate) fn told(&self, tenant: &Tenant, page: Page) -> FoundEntries {
        let sizes = self.archive.sizes(tenant);
        let (here, next) = (page.here.to_string(), page.next.map(|c| c.to_string()));
        let entries = page.rows.into_iter().map(|row| FoundEntry {
            verified_size: sizes.get(&row.place.origin).copied().unwrap_or(row.place.index + 1),
            origin: row.place.origin.to_string(),
            index: row.place.index,
            entry: String::from_utf8_lossy(&row.entry).into_owned(),
        });
        FoundEntries { entries: entries.collect(), next, here }
    }

    /// A page of what `query` finds, for what the house makes of its own ledger.
    pub(crate) async fn found_page(
        &self,
        tenant: &Tenant,
        query: &str,
        order: Order,
        limit: usize,
        cursor: Option<Cursor>,
    ) -> Result<Page, Problem> {
        let query = query.parse::<Query>();
        let query = query.map_err(|e| Problem::with_detail(ReasonCode::Internal, e.to_string()))?;
        self.page(tenant, Question { query, order, cursor }, limit.max(1)).await
    }

    async fn page(&self, tenant: &Tenant, question: Question, limit: usize) -> Result<Page, Problem> {
        let Question { query, order, cursor } = question;
        let page = self.archive.search(tenant, query, order, limit, cursor, self.clock.now()).await;
        page.map_err(|error| match error {
            IndexError::Cursor(_) => Problem::with_detail(ReasonCode::BodyMalformed, error.to_string()),
            IndexError::QueryTooSlow => Problem::with_detail(ReasonCode::QueryTooSlow, error.to_string()),
            // A page of before a period was removed: the index will never reach it again.
            IndexError::Behind { origin, .. }
                if !self.archive.sizes(tenant).contains_key(origin.as_str()) =>
            {
                Problem::with_detail(ReasonCode::PeriodRemoved, format!("the cursor is about {origin}"))
            }
            IndexError::Behind { .. } => Problem::with_detail(ReasonCode::Conflict, error.to_string()),
            IndexError::Unusable(_)
            | IndexError::Unavailable(_)
            | IndexError::Gap { .. }
            | IndexError::OtherTenant { .. }
            | IndexError::Log(_) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the ledger could not be searched");
                Problem::new(ReasonCode::RecordUnavailable)
            }
        })
    }
}

fn question(view: &View, tenant: &Tenant, request: &SearchLedger) -> Result<Question, Problem> {
    let saved = match &request.view {
        None => None,
        Some(name) => Some(saved_view(view, tenant, name)?),
    };
    // Both must hold; brackets keep an `or` of either within itself.
    let text = match (&saved, &request.query) {
        (Some(saved), Some(query)) => format!("({saved}) ({query})"),
        (Some(text), None) | (None, Some(text)) => text.clone(),
        (None, None) => String::new(),
    };
    let malformed = |detail: String| Problem::with_detail(ReasonCode::BodyMalformed, detail);
    let query = if text.trim().is_empty() {
        Query::everything()
    } else {
        text.parse().map_err(|e: bartizan_query::QueryError| malformed(e.to_string()))?
    };
    let cursor = request.cursor.as_deref().map(str::parse).transpose();
    Ok(Question {
        query,
        order: match request.first {
            First::Newest => Order::Newest,
            First::Oldest => Order::Oldest,
        },
        cursor: cursor.map_err(|e: bartizan_index::CursorError| malformed(e.to_string()))?,
    })
}

fn saved_view(view: &View, tenant: &Tenant, name: &Name) -> Result<String, Problem> {
    let found = view.state.documents.iter().find_map(|(owner, document, _)| match &document.spec {
        Spec::View(spec) if owner == tenant && document.name == *name => Some(spec.query.to_string()),
        _ => None,
    });
    found.ok_or_else(|| Problem::with_detail(ReasonCode::NotFound, format!("there is no view `{name}`")))
}

#[expect(clippy::needless_pass_by_value, reason = "the signature that map_err calls")]
fn unwritable(error: bartizan_export::ExportError) -> Problem {
    tracing::error!(error = &error as &dyn std::error::Error, "an export could not be written");
    Problem::new(ReasonCode::Internal)
}
