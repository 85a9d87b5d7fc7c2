//! Inputs that are posted to the local page: who may, what is too much, and what is wrong with it.
//!
//! `POST /machines/<asset>/samples` with `Authorization: Bearer <token>` and a message of [`kilter_source`] as its body: JSON as
//! `application/json`, frames as `application/octet-stream`. The page listens on loopback only and asks nobody else who they are, but
//! what is posted here can stop a machine, so each machine has its token. 202: the machine takes it after those before it. 429: it has
//! not come to those yet, send the same again. `/status` says at which position each channel is, for whoever starts again.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path as UrlPath, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use kilter_source::{Door, Encoding, MAX_MESSAGE_BYTES, PushError};
use kilter_types::{Digest, Name};
use serde_json::json;

use crate::file;
use crate::machine::chain;

/// A machine whose inputs are posted.
#[derive(Clone, Debug)]
pub(crate) struct Post {
    door: Door,
    token: Digest,
}

impl Post {
    /// With the token that lies in a file.
    pub(crate) fn new(door: Door, token_file: &Path) -> anyhow::Result<Self> {
        let token = file::secret(token_file).with_context(|| format!("read the token {}", token_file.display()))?;
        ensure!(token.len() >= LEAST_TOKEN, "{}: a token has at least {LEAST_TOKEN} characters", token_file.display());
        Ok(Self { door, token: Digest::of(token.as_bytes()) })
    }
}

/// The route; none without machines that take posts.
pub(crate) fn router(posts: BTreeMap<Name, Post>) -> Router {
    if posts.is_empty() {
        return Router::new();
    }
    let route = Router::new().route("/machines/{asset}/samples", post(take));
    route.layer(DefaultBodyLimit::max(MAX_MESSAGE_BYTES)).with_state(Arc::new(posts))
}

async fn take(
    State(posts): State<Arc<BTreeMap<Name, Post>>>,
    UrlPath(asset): UrlPath<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let Some(Post { door, token }) = Name::new(&asset).ok().and_then(|asset| posts.get(&asset)) else {
        return refuse(StatusCode::NOT_FOUND, format!("no machine {asset:?} has source = {{ kind = \"http\" }}"));
    };
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    // By their digests, so that the time that it takes tells nothing of the token.
    let shown = text(header::AUTHORIZATION).strip_prefix("Bearer ").unwrap_or_default();
    if Digest::of(shown.as_bytes()) != *token {
        let said = "show this machine's token: Authorization: Bearer and what lies in its token_file";
        return ([(header::WWW_AUTHENTICATE, "Bearer")], refuse(StatusCode::UNAUTHORIZED, said.to_owned()))
            .into_response();
    }
    let encoding = match text(header::CONTENT_TYPE).split(';').next().unwrap_or_default().trim() {
        "application/json" => Encoding::Json,
        "application/octet-stream" => Encoding::Frames,
        other => {
            let said = format!("content-type {other:?}: send application/json, or frames as application/octet-stream");
            return refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE, said);
        }
    };
    let door = door.clone();
    let pushed = tokio::task::spawn_blocking(move || door.push(encoding, &body)).await;
    match pushed {
        Ok(Ok(())) => StatusCode::ACCEPTED.into_response(),
        Ok(Err(PushError::Message(error))) => refuse(StatusCode::BAD_REQUEST, chain(&error)),
        Ok(Err(error @ PushError::Full)) => {
            ([(header::RETRY_AFTER, "1")], refuse(StatusCode::TOO_MANY_REQUESTS, error.to_string())).into_response()
        }
        Ok(Err(PushError::Ended)) | Err(_) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, format!("{asset} is watched no more: the agent ends"))
        }
    }
}

fn refuse(status: StatusCode, detail: String) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({ "status": status.as_u16(), "title": title, "detail": detail });
    (status, [(header::CONTENT_TYPE, "application/problem+json")], body.to_string()).into_response()
}

const LEAST_TOKEN: usize = 16;

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use kilter_source::{ChannelSpec, Item, PushSource, QUEUE, Source as _, Stop};
    use kilter_types::{Hertz, Input, Unit};

    use super::*;

    const TOKEN: &str = "a-token-of-the-plant";

    /// A page that takes posts for `pump-1`, on a real socket, and the source behind it.
    struct House {
        address: SocketAddr,
        source: Option<PushSource>,
        _runtime: tokio::runtime::Runtime,
    }

    fn house() -> House {
        let dir = tempfile::tempdir().expect("a folder");
        let token = dir.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).expect("written");
        let asset = Name::new("pump-1").expect("a good name");
        let channel = ChannelSpec { name: Name::new("de").expect("good"), unit: Unit::G, rate: Some(Hertz(1000.0)) };
        let (door, source) = Door::open(asset.clone(), vec![channel], vec![0], Stop::default());
        let post = Post::new(door.clone(), &token).expect("a good token");
        std::fs::write(&token, "short").expect("written");
        assert!(Post::new(door, &token).is_err_and(|error| error.to_string().contains("at least 16")));
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        runtime.spawn(async move { axum::serve(listener, router([(asset, post)].into())).await });
        House { address, source: Some(source), _runtime: runtime }
    }

    impl House {
        /// Status and body of the answer.
        fn post(&self, path: &str, token: &str, kind: &str, body: &str) -> (u16, String) {
            let head = format!("POST {path} HTTP/1.1\r\nAuthorization: Bearer {token}\r\nContent-Type: {kind}");
            kilter_tests::send(self.address, &head, body.as_bytes()).expect("the page answers")
        }

        fn samples(&self, body: &str) -> (u16, String) {
            self.post("/machines/pump-1/samples", TOKEN, "application/json", body)
        }

        fn next(&mut self) -> Option<(u64, Vec<f32>)> {
            let source = self.source.as_mut()?;
            loop {
                match source.next().expect("what is wrong was refused at the door") {
                    Item::Input { position, input: Input::Block { samples, .. }, .. } => {
                        return Some((position, samples.to_vec()));
                    }
                    Item::Idle => return None,
                    _ => {}
                }
            }
        }
    }

    fn block(position: u64) -> String {
        format!("{{\"channel\":\"de\",\"position\":{position},\"t_us\":{},\"samples\":[{position}]}}", 1000 * position)
    }

    #[test]
    fn what_is_posted_comes_to_the_machine_and_what_is_wrong_is_answered_with_its_reason() {
        let mut house = house();
        let (status, _) = house.samples(&format!("[{}, {}]", block(3), block(4)));
        assert_eq!(status, 202);
        assert_eq!([house.next(), house.next(), house.next()], [Some((3, vec![3.0])), Some((4, vec![4.0])), None]);
        let good = block(5);
        let path = "/machines/pump-1/samples";
        let wrong_rate = good.replace("\"t_us\"", "\"rate_hz\":990,\"t_us\"");
        let long = " ".repeat(MAX_MESSAGE_BYTES + 1);
        for (path, token, kind, body, status, said) in [
            ("/machines/pump-2/samples", TOKEN, "application/json", good.as_str(), 404, "no machine \\\"pump-2\\\""),
            (path, "another-token-of-it", "application/json", &good, 401, "token_file"),
            (path, "", "application/json", &good, 401, "token_file"),
            (path, TOKEN, "text/plain", &good, 415, "application/octet-stream"),
            (path, TOKEN, "application/json; charset=utf-8", "{", 400, "read it as JSON: EOF"),
            (path, TOKEN, "application/json", &wrong_rate, 400, "correct rate_hz in the configuration"),
            (path, TOKEN, "application/octet-stream", &good, 400, "read a frame"),
            (path, TOKEN, "application/json", &long, 413, ""),
        ] {
            let answer = house.post(path, token, kind, body);
            assert_eq!(answer.0, status, "{}", answer.1);
            assert!(answer.1.contains(said), "{said}: {}", answer.1);
        }
        assert_eq!(house.next(), None, "nothing of what was refused");
    }

    #[test]
    fn a_poster_is_held_back_while_the_machine_is_behind_and_nothing_accepted_is_lost() {
        let mut house = house();
        let (mut sent, mut got) = (0_u64, Vec::new());
        while house.samples(&block(sent)).0 == 202 {
            sent += 1;
        }
        assert_eq!(sent, QUEUE as u64);
        let (status, answer) = house.samples(&block(sent));
        assert!(status == 429 && answer.contains("send again in a moment"), "{answer}");
        got.extend(house.next());
        assert_eq!(house.samples(&block(sent)).0, 202, "there is room for one");
        got.extend(std::iter::from_fn(|| house.next()));
        assert_eq!(got.iter().map(|(position, _)| *position).collect::<Vec<_>>(), (0..=sent).collect::<Vec<_>>());
        house.source = None;
        assert_eq!(house.samples(&block(0)).0, 503, "nobody takes it any more");
    }
}
