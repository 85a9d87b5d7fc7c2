//! A bucket of an S3-compatible store: how it is reached, and what it must do before a lake may lie in it.
//!
//! A commit takes effect by creating the next log entry, which must fail where there is one already (`If-None-Match: *`). A store that
//! overwrites nevertheless would lose commits without a word, so this is tried before the first table is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, S3ConditionalPut};
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, PutMode, PutPayload, RetryConfig};

use crate::{LakeError, Place};

/// Where a bucket is, and who we are to it.
#[derive(Clone, Debug)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Where in it the lake lies; may be empty.
    pub prefix: String,
    /// The server, as in `https://store.example:9000`; empty for the one that the region names.
    pub endpoint: String,
    /// Its region; most servers take any.
    pub region: String,
    /// Who we are.
    pub credentials: Credentials,
}

/// An access key. It is never printed.
#[derive(Clone)]
pub struct Credentials {
    /// The public half.
    pub key_id: String,
    /// The secret half.
    pub secret: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials")
    }
}

impl Bucket {
    /// Connects, and refuses a store that overwrites what a commit must not. Files that are read are kept under `cache`.
    pub async fn connect(&self, cache: PathBuf) -> Result<Place, LakeError> {
        let failed = |source| LakeError::Bucket { bucket: self.name.clone(), source };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.name)
            .with_region(&self.region)
            .with_access_key_id(&self.credentials.key_id)
            .with_secret_access_key(&self.credentials.secret)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_client_options(ClientOptions::new().with_allow_http(self.endpoint.starts_with("http://")))
            // The committer tries again by itself, and says meanwhile what is wrong.
            .with_retry(RetryConfig {
                max_retries: 3,
                retry_timeout: Duration::from_secs(20),
                ..RetryConfig::default()
            });
        if !self.endpoint.is_empty() {
            builder = builder.with_endpoint(&self.endpoint);
        }
        let store: Arc<dyn ObjectStore> = Arc::new(builder.build().map_err(failed)?);
        if !refuses_to_overwrite(store.as_ref(), &self.prefix).await.map_err(failed)? {
            return Err(LakeError::Overwrites { bucket: self.name.clone() });
        }
        let url = format!("s3://{}", self.name);
        Ok(Place::Bucket { store, url, prefix: self.prefix.trim_matches('/').to_owned(), cache })
    }
}

/// Tries it on an object of its own, which stays.
async fn refuses_to_overwrite(store: &dyn ObjectStore, prefix: &str) -> Result<bool, object_store::Error> {
    let probe = Path::from(format!("{prefix}/{PROBE}"));
    let put = || store.put_opts(&probe, PutPayload::from_static(b"kilter"), PutMode::Create.into());
    // It may be there from the last time.
    match put().await {
        Ok(_) | Err(object_store::Error::AlreadyExists { .. }) => {}
        Err(error) => return Err(error),
    }
    match put().await {
        Ok(_) => Ok(false),
        Err(object_store::Error::AlreadyExists { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

const PROBE: &str = "created-once";
