//! The same promises on a real S3 server.

use kilter_lake::{Bucket, Credentials, LakeError};

use crate::contract::{JOURNAL, contract, in_bucket, like_a_folder};
use crate::weed::{KEY_ID, SECRET, Weed};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s1_20_l1_an_s3_server_keeps_the_contract_and_holds_what_a_folder_holds() {
    let Some(weed) = Weed::start("plant") else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let bucket = |prefix: &str, secret: &str| Bucket {
        name: "plant".into(),
        prefix: prefix.into(),
        endpoint: weed.endpoint.clone(),
        region: "us-east-1".into(),
        credentials: Credentials { key_id: KEY_ID.into(), secret: secret.into() },
    };
    let refused = bucket("lake", "guessed").connect(folder.path().join("none")).await;
    assert!(matches!(refused, Err(LakeError::Bucket { .. })), "a wrong secret is let in");
    let place = bucket("contract", SECRET)
        .connect(folder.path().join("other"))
        .await
        .expect("a bucket that refuses to overwrite");
    contract(in_bucket(&place, JOURNAL).await).await;
    let place = bucket("lake", SECRET).connect(folder.path().join("cache")).await.expect("the same bucket");
    like_a_folder(&place, folder.path()).await;
}
