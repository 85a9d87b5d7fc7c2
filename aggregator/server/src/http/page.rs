//! The page: files that are part of the program; nothing is loaded from anywhere else.

use axum::extract::Path;
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::error::Problem;

pub(super) async fn index(headers: HeaderMap) -> Response {
    file("index.html", &headers).unwrap_or_else(|| Problem::not_found("the page").into_response())
}

/// A file by its path; paths of views are the page itself, so that every view is a link.
pub(super) async fn asset(Path(path): Path<String>, headers: HeaderMap) -> Response {
    match file(&path, &headers) {
        Some(response) => response,
        None if VIEWS.iter().any(|view| path.starts_with(view)) => index(headers).await,
        None => Problem::not_found(&format!("/{path}")).into_response(),
    }
}

fn file(path: &str, asked: &HeaderMap) -> Option<Response> {
    let (_, kind, bytes) = FILES.iter().find(|(name, ..)| *name == path)?;
    let tag = format!("\"{:016x}\"", fnv(bytes));
    let known = asked.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-cache"),
        (header::ETAG, &tag),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    Some(if known {
        (StatusCode::NOT_MODIFIED, headers).into_response()
    } else {
        (StatusCode::OK, headers, *bytes).into_response()
    })
}

/// FNV-1a: tells two builds' files apart, nothing more.
fn fnv(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

const VIEWS: [&str; 4] = ["machine/", "alarms", "models", "data"];

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Every file of the page.
const FILES: &[(&str, &str, &[u8])] = &[
    ("index.html", HTML, include_bytes!("../../ui/index.html")),
    ("style.css", CSS, include_bytes!("../../ui/style.css")),
    ("icon.svg", SVG, include_bytes!("../../ui/icon.svg")),
    ("app.js", SCRIPT, include_bytes!("../../ui/app.js")),
    ("api.js", SCRIPT, include_bytes!("../../ui/api.js")),
    ("store.js", SCRIPT, include_bytes!("../../ui/store.js")),
    ("route.js", SCRIPT, include_bytes!("../../ui/route.js")),
    ("dom.js", SCRIPT, include_bytes!("../../ui/dom.js")),
    ("text.js", SCRIPT, include_bytes!("../../ui/text.js")),
    ("chart.js", SCRIPT, include_bytes!("../../ui/chart.js")),
    ("paint.js", SCRIPT, include_bytes!("../../ui/paint.js")),
    ("axis.js", SCRIPT, include_bytes!("../../ui/axis.js")),
    ("parts.js", SCRIPT, include_bytes!("../../ui/parts.js")),
    ("alarm.js", SCRIPT, include_bytes!("../../ui/alarm.js")),
    ("fleet.js", SCRIPT, include_bytes!("../../ui/fleet.js")),
    ("row.js", SCRIPT, include_bytes!("../../ui/row.js")),
    ("machine.js", SCRIPT, include_bytes!("../../ui/machine.js")),
    ("trends.js", SCRIPT, include_bytes!("../../ui/trends.js")),
    ("spectra.js", SCRIPT, include_bytes!("../../ui/spectra.js")),
    ("alarms.js", SCRIPT, include_bytes!("../../ui/alarms.js")),
    ("models.js", SCRIPT, include_bytes!("../../ui/models.js")),
    ("cards.js", SCRIPT, include_bytes!("../../ui/cards.js")),
];

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const SVG: &str = "image/svg+xml";
const SCRIPT: &str = "text/javascript; charset=utf-8";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_module_that_a_file_of_the_page_names_is_served() {
        for (file, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).expect("files are text");
            let quoted = text
                .split('"')
                .filter(|part| part.ends_with(".js") || part.ends_with(".css") || part.ends_with(".svg"));
            for name in quoted.filter_map(|part| part.strip_prefix("./").or_else(|| part.strip_prefix('/'))) {
                assert!(FILES.iter().any(|(other, ..)| *other == name), "{file} names {name}, which is not served");
            }
        }
    }

    #[test]
    fn nothing_on_the_page_comes_from_elsewhere_or_stands_inline() {
        for (file, _, bytes) in FILES {
            let text = std::str::from_utf8(bytes).expect("files are text");
            let foreign = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!foreign.contains("http://") && !foreign.contains("https://"), "{file} names another host");
            for inline in ["<style", " style=", "innerHTML", "eval(", "onclick=\""] {
                assert!(
                    !text.contains(inline),
                    "{file} holds {inline}, which the policy forbids or which parses markup"
                );
            }
        }
    }

    #[tokio::test]
    async fn a_view_is_the_page_and_an_unknown_path_is_not() {
        let asked = |path: &str| asset(Path(path.to_owned()), HeaderMap::new());
        assert_eq!(asked("machine/t/s/a").await.status(), StatusCode::OK);
        assert_eq!(asked("wp-login.php").await.status(), StatusCode::NOT_FOUND);
    }

    #[tokio::test]
    async fn a_file_that_the_browser_holds_is_not_sent_again() {
        let first = asset(Path("app.js".into()), HeaderMap::new()).await;
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, first.headers()[header::ETAG].clone());
        assert_eq!(asset(Path("app.js".into()), headers).await.status(), StatusCode::NOT_MODIFIED);
    }
}
