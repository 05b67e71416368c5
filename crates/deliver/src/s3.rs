//! S3-compatible stores: objects that are created and never changed, with one exception, the checkpoint.
//!
//! Everything rests on conditional writes (`If-None-Match`, `If-Match`), which older stores pass over without a word:
//! [`Bucket::check`] finds that out before anything is trusted to one.

mod mirror;
mod transport;

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bartizan_secret::Secret;
use bartizan_upstream::{ExchangePolicy, Upstreams};
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{
    ClientOptions, Error, ObjectStore as _, ObjectStoreExt as _, PutMode, PutOptions, RetryConfig,
    UpdateVersion,
};

use crate::batch::{Batch, Cause, DeliverError, Sink};
use transport::Exit;

pub use mirror::{Mirror, MirrorError, Put, Version};

/// Which store, and as whom.
#[derive(Clone, Debug)]
pub struct S3Config {
    /// The store's address; none means AWS itself, by region.
    pub endpoint: Option<String>,
    /// The region that requests are signed for.
    pub region: String,
    /// The bucket, which is there already.
    pub bucket: String,
    /// What the names of objects begin with; empty for nothing.
    pub prefix: String,
    /// The public half of the credential.
    pub access_key_id: String,
    /// The other half.
    pub secret_access_key: Secret<String>,
    /// Whether the address may be private, and may then be `http`.
    pub allow_private: bool,
}

/// The store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The configuration makes no sense.
    #[error("the store's configuration is not usable: {0}")]
    Config(Cause),
    /// It takes a write whose condition does not hold, so that what is there could be overwritten.
    #[error("the store does not honour `{0}`")]
    Unconditional(&'static str),
    /// It did not do what was asked.
    #[error("the store did not do it: {0}")]
    Store(Cause),
}

/// A bucket of a store.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<AmazonS3>,
    prefix: Path,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Stores each batch as an object of its own, `PREFIX/ORIGIN/FIRST-LAST.jsonl`. It is created and never overwritten, so a batch
/// that comes twice is there once.
#[derive(Clone, Debug)]
pub struct S3Sink(Bucket);

/// How a conditional write ended.
enum Written {
    /// It was made.
    Now(UpdateVersion),
    /// Its condition did not hold.
    Not,
}

const PROBE: &str = ".conditional-writes";
/// An entity tag that no store gives to anything.
const NO_TAG: &str = "\"00000000000000000000000000000000\"";

impl Bucket {
    /// The bucket, reached by `upstreams`. Nothing is asked of it yet.
    ///
    /// # Errors
    /// [`S3Error::Config`].
    pub fn new(config: &S3Config, upstreams: Arc<Upstreams>) -> Result<Self, S3Error> {
        let exit = Exit::new(upstreams, ExchangePolicy::Objects { allow_private: config.allow_private });
        let mut builder = AmazonS3Builder::new()
            .with_region(&config.region)
            .with_bucket_name(&config.bucket)
            .with_access_key_id(&config.access_key_id)
            .with_secret_access_key(config.secret_access_key.expose())
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(ClientOptions::new().with_allow_http(config.allow_private))
            // The courier tries again.
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            .with_http_connector(exit);
        if let Some(endpoint) = &config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        let store = builder.build().map_err(|e| S3Error::Config(Cause::chain(&e)))?;
        Ok(Self { store: Arc::new(store), prefix: Path::from(config.prefix.as_str()) })
    }

    /// Makes sure that the store refuses to overwrite. Leaves a small object behind.
    ///
    /// # Errors
    /// [`S3Error::Unconditional`] names what it passes over; [`S3Error::Store`] when it cannot be told.
    pub async fn check(&self) -> Result<(), S3Error> {
        let failed = |error: Error| S3Error::Store(Cause::chain(&error));
        let path = self.path(PROBE);
        let probe = Bytes::from_static(b"Left by a check that conditional writes are honoured.\n");
        // Either makes it or finds it; then the second must find it.
        self.write(&path, probe.clone(), PutMode::Create).await.map_err(failed)?;
        if let Written::Now(_) = self.write(&path, probe.clone(), PutMode::Create).await.map_err(failed)? {
            return Err(S3Error::Unconditional("If-None-Match"));
        }
        let never = UpdateVersion { e_tag: Some(NO_TAG.into()), version: None };
        match self.write(&path, probe, PutMode::Update(never)).await.map_err(failed)? {
            Written::Now(_) => Err(S3Error::Unconditional("If-Match")),
            Written::Not => Ok(()),
        }
    }

    async fn write(&self, path: &Path, bytes: Bytes, mode: PutMode) -> Result<Written, Error> {
        match self.store.put_opts(path, bytes.into(), PutOptions::from(mode)).await {
            Ok(put) => Ok(Written::Now(put.into())),
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(Written::Not),
            Err(error) => Err(error),
        }
    }

    /// Creates an object, or finds that it is there; says whether what is there is the same.
    async fn create(&self, path: &Path, bytes: &Bytes) -> Result<Created, Error> {
        match self.write(path, bytes.clone(), PutMode::Create).await? {
            Written::Now(_) => Ok(Created::Now),
            Written::Not => {
                let there = self.store.get(path).await?.bytes().await?;
                Ok(if there == *bytes { Created::Before } else { Created::Other })
            }
        }
    }

    fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{name}", self.prefix))
    }
}

/// What became of an object that was to be created.
enum Created {
    /// It was created.
    Now,
    /// The same was there before.
    Before,
    /// Something else was there before, and still is.
    Other,
}

impl S3Sink {
    /// Batches into `bucket`.
    ///
    /// # Errors
    /// As for [`Bucket::check`].
    pub async fn open(bucket: Bucket) -> Result<Self, S3Error> {
        bucket.check().await?;
        Ok(Self(bucket))
    }
}

#[async_trait]
impl Sink for S3Sink {
    async fn deliver(&self, batch: &Batch) -> Result<(), DeliverError> {
        let (first, last) = (batch.first(), batch.last());
        let kind = if batch.media_type == Batch::JSON_LINES { ".jsonl" } else { "" };
        let name = format!("{}/{:020}-{:020}{kind}", first.origin, first.index, last.index);
        match self.0.create(&self.0.path(&name), &batch.body).await {
            Ok(Created::Now | Created::Before) => Ok(()),
            Ok(Created::Other) => Err(DeliverError::refused("another object has the batch's name")),
            Err(error) => Err(DeliverError::retry(Cause::chain(&error))),
        }
    }
}
