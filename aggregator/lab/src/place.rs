//! Where this lab's lake lies: on its own disk or in a bucket, as `[lake]` in `lab.toml` says.
//!
//! Secrets come from the environment or from a file that only its owner may read, never from `lab.toml`, and are never printed.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, ensure};
use kilter_lake::{Bucket, Credentials, Gate, Place};
use serde::Deserialize;

use crate::config;

/// The lake's place; `gate` is asked before each step of a write to a disk.
pub(crate) async fn place(data: &Path, config: &config::Lake, gate: Gate) -> anyhow::Result<Place> {
    let (folder, copy) = (data.join("lake"), data.join("lake-copy"));
    if config.bucket.is_empty() {
        ensure!(
            !copy.exists(),
            "failed to open the lake: it lay in a bucket until now, and lab.toml names none; put [lake] bucket back, or move the lake \
             and remove {}",
            copy.display()
        );
        std::fs::create_dir_all(&folder).with_context(|| format!("failed to create {}", folder.display()))?;
        return Ok(Place::Folder { path: folder, gate });
    }
    // The stored fold speaks for the tables that it was committed with.
    ensure!(
        !folder.exists(),
        "failed to use bucket {}: a lake lies in {}; take [lake] bucket out, or copy the lake into the bucket and remove the folder",
        config.bucket,
        folder.display()
    );
    let bucket = Bucket {
        name: config.bucket.clone(),
        prefix: config.prefix.clone(),
        endpoint: config.endpoint.clone(),
        region: config.region.clone(),
        credentials: credentials(&config.credentials_file)?,
    };
    std::fs::create_dir_all(&copy).with_context(|| format!("failed to create {}", copy.display()))?;
    Ok(bucket.connect(copy).await?)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    access_key_id: String,
    secret_access_key: String,
}

fn credentials(file: &str) -> anyhow::Result<Credentials> {
    if file.is_empty() {
        let read =
            |name: &str| std::env::var(name).with_context(|| format!("failed to use the bucket: {name} is not set"));
        return Ok(Credentials { key_id: read("AWS_ACCESS_KEY_ID")?, secret: read("AWS_SECRET_ACCESS_KEY")? });
    }
    let mode = std::fs::metadata(file).with_context(|| format!("failed to read {file}"))?.permissions().mode();
    ensure!(mode & 0o077 == 0, "failed to use {file}: others may read it; run `chmod 600 {file}`");
    let text = std::fs::read_to_string(file).with_context(|| format!("failed to read {file}"))?;
    // What is wrong with it is not printed: the message would quote the line.
    let keys: Option<Keys> = toml::from_str(&text).ok();
    let keys = keys.with_context(|| format!("failed to read {file}: it holds access_key_id and secret_access_key"))?;
    Ok(Credentials { key_id: keys.access_key_id, secret: keys.secret_access_key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_others_may_read_is_refused_and_none_is_ever_printed() {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().join("keys.toml");
        let file = path.to_str().expect("UTF-8");
        let allow = |mode| std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).expect("it is ours");
        std::fs::write(&path, "access_key_id = \"who\"\nsecret_access_key = \"hush\"\n").expect("written");
        allow(0o644);
        let refused = credentials(file).expect_err("others may read it");
        assert!(refused.to_string().contains("chmod 600"), "{refused}");
        allow(0o600);
        let keys = credentials(file).expect("only we may read it");
        assert_eq!((keys.key_id.as_str(), keys.secret.as_str()), ("who", "hush"));
        assert!(!format!("{keys:?}").contains("hush"));
        std::fs::write(&path, "secret_access_key = hush\n").expect("written");
        let broken = credentials(file).expect_err("no TOML");
        assert!(!format!("{broken:?}").contains("hush"), "{broken:?}");
    }
}
